"""The staged copies below a staging folder: ``<number>-<tag>``, where higher numbers are those of later takes."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

from sucrose.snapshot.staged_upload.note import read_note
from sucrose.storage.leases import lease_for_removal

_COPY = re.compile(r"([0-9]{8,})-[0-9a-f]{12}\Z")
_HIDDEN = re.compile(r"\.([0-9]{8,})-[0-9a-f]{12}\.tmp-[0-9a-f]{32}(?:\.gone)?\Z")
"""What the commit of a copy renames, and what a dead one has left."""


def copies_in(folder: str) -> list[str]:
    """Paths of the copies that were committed, in the order of the takes."""
    found = [(int(match[1]), name) for name in _names(folder) if (match := _COPY.match(name))]
    return [os.path.join(folder, name) for _, name in sorted(found)]


def order_of(path: str) -> tuple[int, str]:
    """What sorts copies of one folder by their takes."""
    name = os.path.basename(path)
    return int(name.partition("-")[0]), name


def next_copy(folder: str, tag: str) -> str:
    """A path for the next one, behind all that are there or being written."""
    numbers = [int(match[1]) for name in _names(folder) for form in (_COPY, _HIDDEN) if (match := form.match(name))]
    return os.path.join(folder, f"{max(numbers, default=0) + 1:08}-{tag}")


def remove_leftovers(folder: str) -> None:
    """Removes what takes have left that never came to their local commit, and copies that were uploaded already."""
    for name in _names(folder):
        path = os.path.join(folder, name)
        if _HIDDEN.match(name):
            _remove(path, only_under_lock=True)
        elif _COPY.match(name) and _is_uploaded(path):
            remove_copy(path)


def remove_copy(path: str) -> bool:
    """Removes one that nobody reads; False where it is still there. It goes as a whole: it is moved away first."""
    return _remove(path, only_under_lock=False)


def _remove(path: str, *, only_under_lock: bool) -> bool:
    try:
        held = lease_for_removal(path)
    except OSError:
        return False
    if held is None:
        return not os.path.lexists(path)
    with held:
        if only_under_lock and not held.is_held:  # nobody knows whether its writer is alive
            return False
        hidden = path
        if not os.path.basename(path).startswith("."):
            folder, name = os.path.split(path)
            hidden = os.path.join(folder, f".{name}.tmp-{os.urandom(16).hex()}")
            try:
                os.rename(path, hidden)
            except OSError:
                return False
        shutil.rmtree(hidden, ignore_errors=True)
    return True


def _is_uploaded(path: str) -> bool:
    try:
        return read_note(path).is_uploaded
    except Exception:  # noqa: BLE001 - whoever uploads it tells what is wrong with it
        return False


def _names(folder: str) -> Iterator[str]:
    try:
        yield from os.listdir(folder)
    except FileNotFoundError:
        return

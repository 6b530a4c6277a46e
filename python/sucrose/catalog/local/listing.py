"""What lies in a catalog's directory, by one look at its names."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from sucrose.catalog.generation import Quarantined
from sucrose.catalog.listing import first_line
from sucrose.catalog.names import QUARANTINE, REASON_FILE, TRASH, is_generation_name, is_temporary_name
from sucrose.errors import CorruptionError
from sucrose.formats.limits import MAX_REASON_NBYTES
from sucrose.storage import LocalDirectory


def generation_names(root: str) -> list[str]:
    """Names that may be generations'; none where there is no folder."""
    try:
        with os.scandir(root) as entries:
            return [
                entry.name
                for entry in entries
                if is_generation_name(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []


def is_gone(path: str) -> bool:
    """Whether there is no directory at the path any more; unlike `os.path.isdir` it does not take a guess.

    Raises:
        OSError: nobody can tell, and looking again would not help.
    """
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True


def list_quarantined(root: str) -> list[Quarantined]:
    """What is in quarantine, by name."""
    folder = os.path.join(root, QUARANTINE)
    found = []
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        path = os.path.join(folder, name)
        if is_generation_name(name) and os.path.isdir(path):
            reason = "unknown: it was not written down"
            with suppress(OSError, CorruptionError):
                reason = first_line(LocalDirectory(path).read(REASON_FILE, MAX_REASON_NBYTES))
            found.append(Quarantined(name=name, path=path, reason=reason))
    return found


def leftover_names(root: str) -> list[str]:
    """Hidden directories of unfinished saves, and what collections have not removed yet; relative to `root`.

    A save that is under way has one, too: whoever removes them asks for a lease first.
    """
    names: list[str] = []
    with suppress(FileNotFoundError), os.scandir(root) as entries:
        names += [
            entry.name for entry in entries if is_temporary_name(entry.name) and entry.is_dir(follow_symlinks=False)
        ]
    trash = os.path.join(root, TRASH)
    if not os.path.islink(trash):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(trash) as entries:
            names += [
                os.path.join(TRASH, entry.name)
                for entry in entries
                if (is_generation_name(entry.name) or is_temporary_name(entry.name))
                and entry.is_dir(follow_symlinks=False)
            ]
    return sorted(names)

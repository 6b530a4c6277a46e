"""Arguments of takes and restores: what is wrong with them is said before anything is done."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sucrose.formats.manifest import METADATA_FILE
from sucrose.snapshot.incremental.dependents import dependents, while_nobody_refers
from sucrose.storage import is_url


def check_target(target: str, overwrite: bool) -> None:
    """Refuses a path at which a snapshot must not be put.

    Raises:
        FileExistsError: there is a snapshot and `overwrite` is false, or something else.
    """
    if not os.path.lexists(target):
        return
    if os.path.exists(os.path.join(target, METADATA_FILE)):
        if not overwrite:
            raise FileExistsError(errno.EEXIST, "a snapshot is here already; overwrite=True replaces it", target)
        refuse_dependents(target)
    elif not os.path.isdir(target):
        raise FileExistsError(errno.EEXIST, "a file is here; a snapshot is a directory", target)
    elif os.listdir(target):
        raise FileExistsError(errno.EEXIST, "a directory that is no snapshot is here and not empty", target)


def refuse_dependents(path: str) -> None:
    """Refuses to replace a snapshot that others refer to.

    Raises:
        FileExistsError: there are any.
    """
    found = dependents(path)
    if found:
        raise FileExistsError(
            errno.EEXIST,
            f"{', '.join(found)} needs this snapshot, which must not be replaced: flatten it first, or save elsewhere",
            path,
        )


@contextmanager
def replacing(path: str) -> Iterator[None]:
    """For putting something in the place of a snapshot, if one is there; nobody begins to need that one meanwhile.

    Raises:
        FileExistsError: others refer to it by now.
        StorageError: for long somebody has been about to (EBUSY).
    """
    with while_nobody_refers(path):
        refuse_dependents(path)
        yield


def check_storage_options(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None) -> None:
    """Refuses options for a file system, which has none.

    Raises:
        ValueError: there are any.
    """
    if storage_options and not is_url(path):
        raise ValueError(f"storage_options {sorted(storage_options)} are unknown: local storage has no options")


def checked_globs(replicated: Sequence[str] | None) -> tuple[str, ...]:
    """The globs of `Snapshot.take`.

    Raises:
        TypeError: one string, or something in it that is none.
    """
    globs = () if replicated is None else replicated
    if isinstance(globs, str) or not all(isinstance(glob, str) for glob in globs):
        raise TypeError(f"replicated={replicated!r}: expected a list of globs, such as ['model/**']")
    return tuple(globs)

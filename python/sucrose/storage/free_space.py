"""Whether there is room for what is about to be written, asked before anything of it is created.

1. The writer says how many bytes it is certain to write: those of tensors that are stored as they are. How much
   compressed ones take, and pickled objects, is known only once they are written, so no room is asked for them.
2. What is refused here could not have succeeded. What is let through may still find the disk full, because somebody
   else has used the space meanwhile, a quota is in the way, or more was written than was certain: the kernel then
   says so, and `storage_full` makes the same error of that, with figures, once the attempt is removed.

The figures are those of statvfs(3): `f_bavail`, or with root's rights `f_bfree`, as root may use the blocks that file
systems reserve for it. File systems that tell nothing (network and FUSE ones, a tmpfs without a limit) let
everything through.
"""

from __future__ import annotations

import errno
import os

from sucrose.errors import StorageFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def free_nbytes(path: str) -> int | None:
    """Bytes that this process may still write where `path` is or will be; None where that is unknown.

    Example:
        >>> from sucrose.storage.free_space import free_nbytes
        >>> free_nbytes("/tmp/a/folder/that/is/not/there/yet") > 0
        True
    """
    status = _status(path)
    if status is None:
        return None
    return status.f_frsize * (status.f_bfree if os.geteuid() == 0 else status.f_bavail)


def check_free_space(target: str, nbytes: int, *, replaces: bool) -> None:
    """Refuses a save that cannot succeed. Nothing is created.

    Args:
        target: what will be saved; its folder need not be there yet.
        nbytes: what is certain to be written.
        replaces: whether something is at the target that stays until the new one is complete.

    Raises:
        StorageFullError: less is free.

    Example:
        >>> from sucrose.errors import StorageFullError
        >>> from sucrose.storage.free_space import check_free_space
        >>> try:
        ...     check_free_space("/tmp/step_100", 1 << 60, replaces=False)
        ... except StorageFullError as error:
        ...     print(error.needed_nbytes > error.free_nbytes)
        True
    """
    free = free_nbytes(target)
    if free is None or nbytes <= free:
        return
    beside = ". The one that it replaces stays until the new one is complete, so both need room" if replaces else ""
    raise StorageFullError(
        errno.ENOSPC,
        f"{_needs(target, nbytes, free)}: free {_text(nbytes - free)} or more there, or save to another file system"
        f"{beside}. Nothing was written",
        target,
        path=target,
        needed_nbytes=nbytes,
        free_nbytes=free,
    )


def is_full(error: OSError) -> bool:
    """Whether the system call failed for want of space, or of quota."""
    return error.errno in _FULL


def storage_full(error: OSError, target: str, nbytes: int) -> StorageFullError:
    """What to raise for an error that `is_full`, once what the attempt has left is removed.

    Args:
        error: of the system call. Its errno and file are kept.
        target: what was being saved.
        nbytes: how much was to be written, as far as that is known, before any compression.
    """
    if isinstance(error, StorageFullError):
        return error
    free = free_nbytes(target)
    why = os.strerror(error.errno or errno.ENOSPC)
    file = os.fsdecode(error.filename) if error.filename else target
    return StorageFullError(
        error.errno,
        f"saving {target!r} failed and nothing was committed: {why}. {_needs(target, nbytes, free, roughly=True)}, "
        f"now that the attempt is removed{_what_to_do(target, nbytes, free)}",
        file,
        path=file,
        needed_nbytes=nbytes,
        free_nbytes=free or 0,
    )


def _status(path: str) -> os.statvfs_result | None:
    """Of the nearest folder that is there; None where its file system does not tell."""
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        status = os.statvfs(folder)
    except OSError:  # not of every file system; whether it can be written to is seen soon enough
        return None
    return status if status.f_blocks and status.f_frsize else None


def _what_to_do(target: str, nbytes: int, free: int | None) -> str:
    status = _status(target)
    if status is not None and status.f_files and not status.f_ffree:
        return ". It has no room for another file (no free inode): remove files there"
    if free is not None and free >= nbytes:
        return ". So the space is used by others at times, or limited by a quota: see to that, and save again"
    return ". Free space there, or save to another file system"


def _needs(target: str, nbytes: int, free: int | None, *, roughly: bool = False) -> str:
    amount = f"about {_text(nbytes)}" if roughly else _text(nbytes)
    are_free = "an unknown amount is" if free is None else f"{_text(free)} are"
    return f"{target!r} needs {amount}, and {are_free} free on its file system"


def _text(nbytes: int) -> str:
    value, unit = float(nbytes), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{nbytes} B"

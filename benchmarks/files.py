"""Files between two measurements: made durable, dropped from the page cache, brought back, removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_DROP_CACHES = "/proc/sys/vm/drop_caches"
_READ_NBYTES = 4 << 20


def files_below(path: Path) -> Iterator[Path]:
    """`path` itself where it is a file, else every file below it."""
    if path.is_file():
        yield path
    for folder, _, names in os.walk(path):
        yield from (Path(folder) / name for name in names)


def tree_nbytes(path: Path) -> int:
    """How long all files of a save are together."""
    return sum(each.stat().st_size for each in files_below(path))


def fsync_tree(path: Path) -> None:
    """Makes durable what a save has written: files first, then folders, then the entry in the parent."""
    folders = [Path(folder) for folder, _, _ in os.walk(path, topdown=False)]
    for each in (*files_below(path), *folders, path.parent):
        fd = os.open(each, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def can_drop_all() -> bool:
    """Whether the whole page cache may be dropped here."""
    return os.access(_DROP_CACHES, os.W_OK)


def drop_page_cache(path: Path) -> None:
    """Forgets the cached pages of everything where that is allowed, else of `path`."""
    os.sync()
    if can_drop_all():
        with open(_DROP_CACHES, "w", encoding="ascii") as file:
            file.write("3")
    else:
        evict(path)


def evict(path: Path) -> None:
    """Takes `path` out of the page cache, and nothing else."""
    for each in files_below(path):
        fd = os.open(each, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def warm_page_cache(path: Path) -> None:
    """Reads everything once, so that the next reader finds it in memory."""
    for each in files_below(path):
        with open(each, "rb", buffering=0) as file:
            while file.read(_READ_NBYTES):
                pass


def remove(path: Path) -> None:
    """Removes a file or a folder and waits until the disk is idle again."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    os.sync()

"""Files of a snapshot are regular files that lie in it, reached without symbolic links.

Who hands a snapshot on could otherwise have a reader open whatever that one may: a link to a private file, a pipe that
never gives an answer, a device. The snapshot's own folder may be a link: that is the reader's choice of a path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from sucrose.errors import CorruptionError

_PATH_MAX = 4096  # of Linux, with the zero byte at the end


def is_short_name(name: str) -> bool:
    """Whether the system could have a file of that name at all."""
    try:
        return len(os.fsencode(name)) < _PATH_MAX
    except UnicodeEncodeError:  # halves of surrogate pairs
        return False


def check_regular(root: str, name: str, known_folders: set[str]) -> os.stat_result:
    """Looks at the file and at the folders that lead to it.

    Args:
        root: the snapshot's folder.
        name: of the file in it.
        known_folders: of this root, those that were looked at before; grows.

    Raises:
        CorruptionError: one of them is a symbolic link, or the file is no regular one.
        OSError: it cannot be examined, or is not there.
    """
    for folder in _folders_of(name):
        if folder not in known_folders:
            path = os.path.join(root, folder)
            if stat.S_ISLNK(os.lstat(path).st_mode):
                raise _is_link(path)
            known_folders.add(folder)
    path = os.path.join(root, name)
    info = os.lstat(path)
    if stat.S_ISLNK(info.st_mode):
        raise _is_link(path)
    _check_kind(path, info)
    return info


def read_regular(path: str, max_nbytes: int | None) -> bytes:
    """All bytes of a file that `check_regular` has passed; looks again at what was really opened.

    Raises:
        CorruptionError: it is no regular file, or a longer one.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=_open_regular) as file:
        info = os.fstat(file.fileno())
        _check_kind(path, info)
        if max_nbytes is not None and info.st_size > max_nbytes:
            raise CorruptionError(
                f"{path} has {info.st_size} bytes; a file of this name has at most {max_nbytes}", path=path
            )
        return file.read()


def read_regular_part(path: str, offset: int, nbytes: int) -> bytes:
    """Some of the bytes of such a file.

    Raises:
        CorruptionError: it is no regular file, or too short.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=_open_regular) as file:
        info = os.fstat(file.fileno())
        _check_kind(path, info)
        if offset + nbytes > info.st_size:
            raise CorruptionError(f"{path} has {info.st_size} bytes, expected {offset + nbytes}", path=path)
        file.seek(offset)
        return file.read(nbytes)


def _open_regular(path: str, flags: int) -> int:
    # Without O_NONBLOCK opening a pipe would wait for somebody to write to it.
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)


def _folders_of(name: str) -> Iterator[str]:
    at = name.find("/")
    while at >= 0:
        yield name[:at]
        at = name.find("/", at + 1)


def _is_link(path: str) -> CorruptionError:
    return CorruptionError(
        f"{path} is a symbolic link, and what a link in a snapshot leads to is never read. If you trust whoever made "
        "it, copy the snapshot with 'cp -rL'",
        path=path,
    )


def _check_kind(path: str, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise CorruptionError(f"{path} is no regular file", path=path)

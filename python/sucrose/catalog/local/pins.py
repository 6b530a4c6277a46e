"""The markers of pins as empty files."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from sucrose.catalog.names import PINS
from sucrose.catalog.pins import PINNED, UNPINNED, Pins, marks_of

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Whatever somebody has put there: a link is not followed, no file loses its contents, no pipe is waited for."""


class LocalPins(Pins):
    """Files in a directory. Holds nothing but the path."""

    def __init__(self, root: str) -> None:
        self._folder = os.path.join(root, PINS)

    def marks(self) -> dict[str, bool]:
        try:
            return marks_of(os.listdir(self._folder))
        except FileNotFoundError:
            return {}

    def set(self, generation_id: str, *, pinned: bool) -> None:
        marker, other = (PINNED, UNPINNED) if pinned else (UNPINNED, PINNED)
        with suppress(FileExistsError):
            os.mkdir(self._folder)
        if not stat.S_ISDIR(os.lstat(self._folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "the catalog needs a directory of its own here", self._folder)
        os.close(os.open(self._path(generation_id, marker), _CREATE, 0o666))
        with suppress(FileNotFoundError):
            os.unlink(self._path(generation_id, other))
        for folder in (self._folder, os.path.dirname(self._folder)):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def is_pinned(self, generation_id: str, *, by_record: bool) -> bool:
        if os.path.exists(self._path(generation_id, PINNED)):
            return True
        return by_record and not os.path.exists(self._path(generation_id, UNPINNED))

    def forget(self, generation_id: str) -> None:
        for marker in (PINNED, UNPINNED):
            with suppress(FileNotFoundError):
                os.unlink(self._path(generation_id, marker))

    def _path(self, generation_id: str, marker: str) -> str:
        return os.path.join(self._folder, generation_id + marker)

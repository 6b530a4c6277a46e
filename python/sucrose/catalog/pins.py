"""Pins that were set or taken back after the save: empty files below ``.pins``, one for each generation.

Where both markers of a generation are there, as after a crash in between, it is pinned.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from sucrose.catalog.names import PINS

_PINNED = ".pinned"
_UNPINNED = ".unpinned"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Whatever somebody has put there: a link is not followed, no file loses its contents, no pipe is waited for."""


class Pins:
    """The markers of one catalog. Thread-safe; holds nothing but the path."""

    def __init__(self, root: str) -> None:
        self._folder = os.path.join(root, PINS)

    def marks(self) -> dict[str, bool]:
        """Whether they are pinned, of the generations that have a marker."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return {}
        marks = {name.removesuffix(_UNPINNED): False for name in names if name.endswith(_UNPINNED)}
        marks |= {name.removesuffix(_PINNED): True for name in names if name.endswith(_PINNED)}
        return marks

    def set(self, generation_id: str, *, pinned: bool) -> None:
        """Puts the marker there, for good when this returns."""
        marker, other = (_PINNED, _UNPINNED) if pinned else (_UNPINNED, _PINNED)
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
        """As `marks`, for one generation; `by_record` is what its save said."""
        if os.path.exists(self._path(generation_id, _PINNED)):
            return True
        return by_record and not os.path.exists(self._path(generation_id, _UNPINNED))

    def forget(self, generation_id: str) -> None:
        """Removes the markers of a generation that is gone."""
        for marker in (_PINNED, _UNPINNED):
            with suppress(FileNotFoundError):
                os.unlink(self._path(generation_id, marker))

    def _path(self, generation_id: str, marker: str) -> str:
        return os.path.join(self._folder, generation_id + marker)

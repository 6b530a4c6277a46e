"""The place of a take on a file system, as the other ranks have it: rank 0 has made the hidden directory."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, final

from sucrose.snapshot.places.files import FilesPlace
from sucrose.snapshot.places.place import JoinedPlace

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.storage import JoinedDirectory


@final
class JoinedFiles(FilesPlace, JoinedPlace):
    """A `JoinedDirectory`."""

    def __init__(self, directory: JoinedDirectory, engine: Engine, *, durable: bool) -> None:
        super().__init__(directory, engine, durable=durable)
        self._joined = directory

    def finish(self) -> None:
        if self._sync is not None:
            self._sync([*self._unsynced, *self._joined.directories])

    def is_gone_by(self, error: BaseException) -> bool:
        return getattr(error, "errno", None) in (errno.ENOENT, errno.ESTALE)

    def is_in_place(self) -> bool:
        return self._joined.is_in_place()

    def settle(self) -> None:
        if self._sync is not None:
            self._sync([os.path.dirname(self.target)])

"""A hidden directory that another process has made and commits: this one only puts files in it."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from sucrose.errors import StorageError
from sucrose.storage.local import LocalDirectory, write_new_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sucrose.storage.leases import Lease

_PATIENCE_S = 2.0  # clients of network file systems keep what they know of a folder for a while
_POLL_S = 0.05


class JoinedDirectory(LocalDirectory):
    """A `StagedDirectory` of another process, for files of this one's.

    It is never made again where it is gone: whoever has made it has then given up, and nothing may be left.
    """

    def __init__(self, root: str, target: str) -> None:
        """Looks for the directory at `root`, which is to become `target`.

        Raises:
            StorageError: it is not there.
        """
        super().__init__(root)
        self.target = target
        self._identity = _identity_of(root)
        self._directories = {root}
        self._bases: list[Lease] = []
        self.small_nbytes = 0
        """What `write` was given so far, successfully or not."""

    @property
    def directories(self) -> list[str]:
        """The folders in which this process has put something, and the directory itself."""
        return sorted(self._directories)

    def hold(self, bases: Iterable[Lease]) -> None:
        """Keeps leases on the snapshots that this one refers to until `discard`."""
        self._bases.extend(bases)

    def create_path(self, name: str) -> str:
        """Path for a new file; its directories are made, below this one.

        Raises:
            OSError: they cannot be, also where this one is gone.
        """
        path = self.path_of(name)
        self._make(os.path.dirname(path))
        return path

    def write(self, name: str, data: bytes) -> str:
        """Creates a small file and returns its path; it is not durable yet."""
        path = self.create_path(name)
        self.small_nbytes += len(data)
        write_new_file(path, data)
        return path

    def is_in_place(self) -> bool:
        """Whether the other process has put the directory at the target."""
        try:
            there = os.stat(self.target)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == self._identity

    def discard(self) -> None:
        """Lets go of it; whoever has made it keeps or removes it."""
        for base in self._bases:
            base.release()

    def _make(self, directory: str) -> None:
        if directory in self._directories:
            return
        self._make(os.path.dirname(directory))
        try:
            os.mkdir(directory)
        except FileExistsError:  # another process was first
            if not os.path.isdir(directory):
                raise
        self._directories.add(directory)


def _identity_of(root: str) -> tuple[int, int]:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            found = os.stat(root)
        except FileNotFoundError as error:
            if time.monotonic() > deadline:
                raise StorageError(
                    errno.ENOENT,
                    f"the folder that rank 0 has made for the snapshot is not here: {root!r}. On several ranks a "
                    "snapshot has to be on storage that all of them share",
                    root,
                    path=root,
                ) from error
            time.sleep(_POLL_S)
        else:
            return found.st_dev, found.st_ino

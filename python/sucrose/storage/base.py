"""Where the files of a snapshot are read from, whatever kind of place that is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import ClassVar

from sucrose.errors import CorruptionError


class Directory(ABC):
    """Files below one folder of this machine, or below one URL. Names are relative, with ``/`` between segments.

    Attributes:
        root: path or URL of the folder; a URL has no slash at its end and no credentials.
        is_local: whether `path_of` gives paths that system calls take.
        concurrency: how many threads should read from it, where it is not local.
    """

    root: str
    is_local: ClassVar[bool]
    concurrency: int = 1

    @abstractmethod
    def refer(self, base: str, names: Iterable[str]) -> None:
        """Makes files of another folder readable here, by their names from here: ``../step_100/data/a``.

        Args:
            base: the other folder, from this one: ``../step_100``.
            names: begin with that; they are all that becomes readable.

        Raises:
            CorruptionError: `base` is no such path, or a name leads out of it.
        """

    @abstractmethod
    def beside(self, base: str) -> Directory:
        """The other folder itself, by the same kind of path.

        Raises:
            CorruptionError: `base` is no such path.
        """

    @abstractmethod
    def path_of(self, name: str) -> str:
        """Path or URL of a file, which need not be there.

        Raises:
            CorruptionError: `name` leads out of the folder, to nothing that is referred to.
        """

    @abstractmethod
    def read(self, name: str, max_nbytes: int | None = None) -> bytes:
        """All bytes of a small file.

        Raises:
            CorruptionError: it is longer than `max_nbytes`, or no plain file.
            OSError: it cannot be read; a FileNotFoundError where it is not there.
        """

    @abstractmethod
    def read_part(self, name: str, offset: int, nbytes: int) -> bytes:
        """Some bytes of a file.

        Raises:
            CorruptionError: it is too short, or no plain file.
            OSError: it cannot be read.
        """

    @abstractmethod
    def read_into(self, name: str, offset: int, into: memoryview) -> None:
        """Fills memory with bytes of a file; raises what `read_part` raises."""

    @abstractmethod
    def size(self, name: str) -> int:
        """Bytes in a file.

        Raises:
            CorruptionError: it is no plain file.
            OSError: it cannot be examined; a FileNotFoundError where it is not there.
        """

    @abstractmethod
    def replace(self, name: str, data: bytes, sync: Callable[[Sequence[str]], None]) -> None:
        """Puts a small file in the place of another, which need not be there: readers find the one or the other.

        Args:
            name: of the file.
            data: its new contents.
            sync: fsyncs paths, where the folder is local.

        Raises:
            OSError: it could not be written, and the old one is in place; or the folder could not be fsynced.
        """


def check_beside(root: str, base: str) -> None:
    """Refuses what is no path from one snapshot to another: up at least once, and down again.

    Raises:
        CorruptionError: `base` is something else.
    """
    parts = PurePosixPath(base).parts
    down = parts[parts.count("..") :]
    if not base.startswith("../") or not down or ".." in down or "/".join(parts) != base or "\0" in base:
        raise CorruptionError(f"{root}: {base!r} does not name another snapshot", path=root)

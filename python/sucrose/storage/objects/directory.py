"""A snapshot's folder in an object store, for reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, final

from sucrose.errors import CorruptionError
from sucrose.storage.base import Directory, check_beside
from sucrose.storage.objects.base import Storage


@final
class ObjectDirectory(Directory):
    """Files below the URL of a storage. Any thread may read; `refer` comes before that.

    Attributes:
        storage: what the requests are made of. It may be shared: it is not for this object to be closed.
    """

    is_local: ClassVar[bool] = False

    def __init__(self, storage: Storage) -> None:
        self.root = storage.url
        self.storage = storage
        self.concurrency = storage.concurrency
        self._referred: dict[str, tuple[Storage, str]] = {}
        """Files of other folders, by their names from here: where they are, and their names there."""

    def refer(self, base: str, names: Iterable[str]) -> None:
        other = self.beside(base)
        for name in names:
            there = name.removeprefix(f"{base}/")
            other.path_of(there)
            self._referred[name] = other.storage, there

    def beside(self, base: str) -> ObjectDirectory:
        check_beside(self.root, base)
        return ObjectDirectory(self.storage.beside(base))

    def path_of(self, name: str) -> str:
        storage, there = self.place_of(name)
        segments = there.split("/")
        if any(segment in ("", ".", "..") for segment in segments) or "\0" in there:
            raise CorruptionError(f"{self.root}: {name!r} does not name a file inside the snapshot", path=self.root)
        return f"{storage.url}/{there}"

    def read(self, name: str, max_nbytes: int | None = None) -> bytes:
        storage, there = self.place_of(name)
        return storage.read(there, max_nbytes)

    def read_part(self, name: str, offset: int, nbytes: int) -> bytes:
        storage, there = self.place_of(name)
        return storage.read_part(there, offset, nbytes)

    def read_into(self, name: str, offset: int, into: memoryview) -> None:
        storage, there = self.place_of(name)
        storage.read_into(there, offset, into)

    def size(self, name: str) -> int:
        storage, there = self.place_of(name)
        return storage.size(there)

    def replace(self, name: str, data: bytes, sync: Callable[[Sequence[str]], None]) -> None:
        self.storage.put(name, data)

    def place_of(self, name: str) -> tuple[Storage, str]:
        """The storage in which a file lies, and its name there, which that one checks with every call."""
        return self._referred.get(name) or (self.storage, name)

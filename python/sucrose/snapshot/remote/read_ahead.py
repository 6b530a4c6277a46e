"""Small files that are going to be read one after another, fetched side by side before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, final

from sucrose.errors import CorruptionError
from sucrose.formats.manifest import TORCH_SAVE, ChunkedTensorEntry, Entry, ObjectEntry, SnapshotMetadata, TensorEntry
from sucrose.snapshot.remote.side_by_side import side_by_side
from sucrose.snapshot.remote.sizes import Sizes
from sucrose.storage import Directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sucrose.formats.index import SnapshotIndex

MAX_NBYTES = 64 << 20
"""Of all the files that are fetched before they are needed; others are when they are."""


@final
class ReadAhead(Directory):
    """A directory of which some files are in memory. Files that could not be fetched are left to it."""

    is_local: ClassVar[bool] = False

    def __init__(self, directory: Directory, nbytes_of: Mapping[str, int]) -> None:
        """Fetches files.

        Args:
            directory: has them, and all others.
            nbytes_of: the sizes that they should have.
        """
        self.root = directory.root
        self.concurrency = directory.concurrency
        self._directory = directory
        self._fetched: dict[str, bytes] = {}
        left = MAX_NBYTES
        chosen = []
        for name, nbytes in nbytes_of.items():
            if nbytes <= left:
                chosen.append((name, nbytes))
                left -= nbytes
        for (name, _), data in zip(chosen, side_by_side(self._fetch, chosen, self.concurrency), strict=True):
            if data is not None:
                self._fetched[name] = data

    def refer(self, base: str, names: Iterable[str]) -> None:
        self._directory.refer(base, names)

    def beside(self, base: str) -> Directory:
        return self._directory.beside(base)

    def path_of(self, name: str) -> str:
        return self._directory.path_of(name)

    def read(self, name: str, max_nbytes: int | None = None) -> bytes:
        found = self._fetched.get(name)
        if found is not None and (max_nbytes is None or len(found) <= max_nbytes):
            return found
        return self._directory.read(name, max_nbytes)

    def read_part(self, name: str, offset: int, nbytes: int) -> bytes:
        return self._directory.read_part(name, offset, nbytes)

    def read_into(self, name: str, offset: int, into: memoryview) -> None:
        self._directory.read_into(name, offset, into)

    def size(self, name: str) -> int:
        found = self._fetched.get(name)
        return self._directory.size(name) if found is None else len(found)

    def replace(self, name: str, data: bytes, sync: Callable[[Sequence[str]], None]) -> None:
        self._fetched.pop(name, None)
        self._directory.replace(name, data, sync)

    def _fetch(self, file: tuple[str, int]) -> bytes | None:
        name, nbytes = file
        try:
            return self._directory.read(name, nbytes)
        except (FileNotFoundError, CorruptionError):  # whoever needs it says what is wrong with it, and for what
            return None


def with_objects_ahead(
    directory: Directory, metadata: SnapshotMetadata, index: SnapshotIndex | None, paths: Sequence[str]
) -> Directory:
    """The directory, with the objects in memory that lie at the logical paths and below them, if it is a remote one."""
    if directory.is_local:
        return directory
    locations = dict.fromkeys(
        location
        for path, entry in metadata.manifest.items()
        for location in _objects_of(entry)
        if any(_is_below(path, wanted, metadata.world_size) for wanted in paths)
    )
    if index is None:
        sizes = Sizes(directory)
        return ReadAhead(directory, {location: sizes.of(location) for location in locations})
    return ReadAhead(
        directory, {location: index.files[location].nbytes for location in locations if location in index.files}
    )


def _objects_of(entry: Entry) -> Iterator[str]:
    """Locations of the files that are loaded as a whole."""
    if isinstance(entry, ObjectEntry):
        yield entry.location
    elif isinstance(entry, TensorEntry):
        if entry.serializer == TORCH_SAVE:
            yield entry.location
    elif isinstance(entry, ChunkedTensorEntry):
        for part in entry.chunks:
            yield from _objects_of(part.tensor)


def _is_below(path: str, wanted: str, world_size: int) -> bool:
    rank, _, logical = wanted.partition("/")
    if rank.isdecimal() and int(rank) >= world_size:  # a new rank has what others have saved for all
        wanted = f"0/{logical}"
    return path == wanted or path.startswith(f"{wanted}/")

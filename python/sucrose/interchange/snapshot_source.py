"""Reading a snapshot.

Values are read through the engine, each chunk checked by its digest. A whole state is another matter, as it may be
larger than memory: where its files are not compressed they are verified first, and then mapped. With a signing key they
are not: what is mapped could be changed after it was verified.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sucrose.errors import CorruptionError, StateMismatchError
from sucrose.formats.manifest import (
    BUFFER_PROTOCOL,
    DictEntry,
    ListEntry,
    OrderedDictEntry,
    PrimitiveEntry,
    TensorEntry,
)
from sucrose.interchange.kinds import Kind
from sucrose.interchange.mapping import MappedFile
from sucrose.interchange.snapshot_listing import list_snapshot
from sucrose.interchange.trees import no_such_key
from sucrose.snapshot.authenticity import signer_of
from sucrose.snapshot.entries import check_tensor_entry, entry_at, find_entry, is_fully_replicated
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.snapshot import Snapshot
from sucrose.storage import LocalDirectory, is_url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sucrose.formats.manifest import Entry
    from sucrose.interchange.listing import Listed
    from sucrose.interchange.snapshot_listing import SnapshotListing


class SnapshotSource:
    """One rank's values of a snapshot, whoever wrote it."""

    kind = Kind.SNAPSHOT

    def __init__(self, path: str, *, allow_pickle: bool, rank: int) -> None:
        self.path = path
        self._allow_pickle = allow_pickle
        self._rank = rank
        self._snapshot = Snapshot(path)
        self._is_signed = signer_of(None) is not None

    @cached_property
    def listing(self) -> SnapshotListing:
        """All ranks' values, and sizes."""
        return list_snapshot(self.path)

    def entries(self) -> Mapping[str, Listed]:
        ranks = self.listing.metadata.world_size
        if self._rank >= ranks:
            raise StateMismatchError(f"{self.path} has no rank {self._rank}, but 0 to {ranks - 1}", path=self.path)
        return {entry.path: entry for entry in self.listing.of_rank(self._rank)}

    def read(self, paths: Sequence[str]) -> list[Any]:
        return self._snapshot.read_objects([f"{self._rank}/{path}" for path in paths], allow_pickle=self._allow_pickle)

    def tree(self, key: str | None = None) -> Any:
        keys = self._keys()
        if key is not None and key not in keys:
            raise no_such_key(self.path, key, keys)
        wanted = keys if key is None else [key]
        roots = [f"{self._rank}/{encode_key(name)}" for name in wanted]
        if self.can_be_mapped:
            values = self._mapped(roots)
        else:
            values = self._snapshot.read_objects(roots, allow_pickle=self._allow_pickle)
        return values[0] if key is not None else dict(zip(wanted, values, strict=True))

    def notes(self) -> list[str]:
        others = self.listing.metadata.world_size - 1
        if others < 1:
            return []
        return [
            f"the values of {others} other {'rank' if others == 1 else 'ranks'} are left out; --rank chooses another"
        ]

    @property
    def can_be_mapped(self) -> bool:
        """Whether all of its tensors lie in its own files as they lie in memory, and may be read there."""
        listing = self.listing
        return (
            not is_url(self.path)
            and not self._is_signed
            and listing.index is not None
            and listing.nbytes == listing.nbytes_on_disk
            and not listing.bases
            and all(entry.type in ("Tensor", "object") for entry in listing.entries if entry.files)
        )

    def _keys(self) -> list[str]:
        names = dict.fromkeys(entry.path.partition("/")[0] for entry in self.entries().values())
        return [name.replace("%2F", "/").replace("%25", "%") for name in names]

    def _mapped(self, roots: list[str]) -> list[Any]:
        report = self._snapshot.verify()
        if not report:
            problem = report.problems[0]
            raise CorruptionError(
                f"{self.path}: {problem.message}. See 'sucrose verify' for what else is damaged",
                path=self.path,
                key=problem.keys[0] if problem.keys else None,
                offset=problem.offset,
            )
        builder = _MappedTree(self)
        try:
            return [builder.build(root, find_entry(self.listing.metadata, root)) for root in roots]
        except RecursionError:
            raise CorruptionError(f"{self.path} has containers that are nested too deeply", path=self.path) from None


class _MappedTree:
    """Rebuilds the containers of a snapshot around tensors that stay in its files."""

    def __init__(self, source: SnapshotSource) -> None:
        self._source = source
        self._metadata = source.listing.metadata
        index = source.listing.index
        self._state_dict_metadata = {} if index is None else index.state_dict_metadata
        self._storage = LocalDirectory(source.path)
        self._files: dict[str, MappedFile] = {}
        self._tensors: dict[object, Any] = {}
        self._claimed: set[tuple[str, int, int]] = set()
        """Ranges of files that tensors lie in."""
        self._unclaimed: dict[str, int] = {}
        """Bytes of each file in which none has been found so far."""

    def build(self, path: str, entry: Entry) -> Any:
        """The value of `entry`, which stands at `path`."""
        if isinstance(entry, TensorEntry) and entry.serializer == BUFFER_PROTOCOL and entry.byte_range is not None:
            return self._tensor(path, entry)
        if isinstance(entry, (DictEntry, OrderedDictEntry)):
            return self._mapping(path, entry)
        if isinstance(entry, ListEntry):
            return self._list(path)
        if isinstance(entry, PrimitiveEntry):
            return entry.get_value()
        return self._source.read([path.partition("/")[2]])[0]

    def _mapping(self, path: str, entry: DictEntry | OrderedDictEntry) -> Any:
        result: Any = OrderedDict() if isinstance(entry, OrderedDictEntry) else {}
        for key in entry.keys:
            child = f"{path}/{encode_key(key)}"
            found = entry_at(self._metadata, child)
            if found is None:
                raise CorruptionError(f"{path!r} has the key {key!r}, but {child!r} is missing", key=child)
            result[key] = self.build(child, found)
        saved = self._state_dict_metadata.get(path) or self._state_dict_metadata.get(f"0/{path.partition('/')[2]}")
        if saved is not None:
            result._metadata = OrderedDict(saved)  # noqa: SLF001 - where nn.Module looks for it
        return result

    def _list(self, path: str) -> list[Any]:
        items: list[Any] = []
        while True:
            child = f"{path}/{len(items)}"
            found = self._metadata.manifest.get(child)
            if found is None:
                found = entry_at(self._metadata, child)
                if found is None or not is_fully_replicated(found):  # the list of another rank may be longer
                    return items
            items.append(self.build(child, found))

    def _tensor(self, path: str, entry: TensorEntry) -> Any:
        check_tensor_entry(path, entry)
        assert entry.byte_range is not None
        begin, end = entry.byte_range
        identity = (entry.location, begin, end, entry.dtype, tuple(entry.shape))
        tensor = self._tensors.get(identity) if end > begin else None
        if tensor is None:
            file = self._files.get(entry.location)
            if file is None:
                file = self._files[entry.location] = MappedFile(self._storage.path_of(entry.location))
            self._claim(path, entry.location, begin, end)
            tensor = self._tensors[identity] = file.tensor(entry.dtype, entry.shape, begin, end)
        return tensor

    def _claim(self, path: str, location: str, begin: int, end: int) -> None:
        """As for restoring: no more than a file has comes out of it, but for tied tensors."""
        if (location, begin, end) in self._claimed:
            return
        self._claimed.add((location, begin, end))
        nbytes = self._storage.size(location)
        self._unclaimed[location] = self._unclaimed.get(location, nbytes) - (end - begin)
        if self._unclaimed[location] < 0:
            raise CorruptionError(
                f"{location} has {nbytes} bytes, and the manifest finds more than that in it, up to {path!r}: its byte "
                "ranges overlap",
                path=self._storage.path_of(location),
                key=path,
                offset=begin,
            )

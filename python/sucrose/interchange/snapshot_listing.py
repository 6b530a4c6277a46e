"""What is in a snapshot, from its metadata and index alone: no torch, no tensor is read."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_128_digest

from sucrose.errors import CorruptionError
from sucrose.formats.limits import MAX_WORLD_SIZE
from sucrose.formats.manifest import (
    ChunkedTensorEntry,
    DTensorEntry,
    ObjectEntry,
    PrimitiveEntry,
    ShardedTensorEntry,
    TensorEntry,
)
from sucrose.interchange.listing import Listed, tensor_nbytes, text_nbytes
from sucrose.interchange.rank_values import values_of_rank, values_of_ranks
from sucrose.snapshot.authenticity import signer_of
from sucrose.snapshot.contents import load_metadata
from sucrose.snapshot.remote.sizes import Sizes
from sucrose.storage import Directory, is_url, location_of, open_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sucrose.formats.index import SnapshotIndex
    from sucrose.formats.manifest import Entry, Shard, SnapshotMetadata
    from sucrose.interchange.rank_values import RankValue


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotListing:
    """A snapshot at a glance.

    Attributes:
        path: its folder, or the URL of it.
        metadata: its commit record.
        index: None where torchsnapshot wrote it.
        entries: its values, in the order of the containers, those of all ranks. What a rank shares with another is
            one entry there that says so, for a whole container if it has nothing else.
        nbytes: of its files and of those that it refers to, before compression.
        nbytes_on_disk: of the same files as they are stored.
        nbytes_in_bases: the part of that which lies in other snapshots.
        bases: their paths, as the index has them: relative to `path`.
    """

    path: str
    metadata: SnapshotMetadata
    index: SnapshotIndex | None
    entries: tuple[Listed, ...]
    nbytes: int
    nbytes_on_disk: int
    nbytes_in_bases: int
    bases: tuple[str, ...]

    @property
    def base_paths(self) -> tuple[str, ...]:
        """The same as paths or URLs."""
        if not is_url(self.path):
            return tuple(os.path.normpath(os.path.join(self.path, base)) for base in self.bases)
        scheme, _, folder = self.path.partition("://")
        return tuple(f"{scheme}://{posixpath.normpath(posixpath.join(folder, base))}" for base in self.bases)

    def of_rank(self, rank: int) -> Iterator[Listed]:
        """All values of one rank, with those that it shares as if they were its own."""
        values = (value._replace(same_as=None) for value in values_of_rank(self.metadata, rank))
        return _listed_values(values, self.metadata, self.index)


def list_snapshot(path: str | os.PathLike[str]) -> SnapshotListing:
    """Reads the small files of a snapshot, checked by their digests.

    Raises:
        IncompleteSnapshotError: there is no commit record at the path.
        SignatureError: a signing key is set, and the snapshot is not signed with it.
        SignatureError: keys are set, and it is not signed with one of them.
        CorruptionError: metadata or index are damaged.

    Example:
        >>> import tempfile, torch
        >>> from sucrose import Snapshot, StateDict
        >>> from sucrose.interchange.snapshot_listing import list_snapshot
        >>> folder = tempfile.mkdtemp() + "/step_1"
        >>> _ = Snapshot.take(folder, {"state": StateDict(weight=torch.ones(2, 3), steps=7)})
        >>> [(entry.path, entry.shape, entry.value) for entry in list_snapshot(folder).entries]
        [('state/weight', (2, 3), None), ('state/steps', None, 7)]
    """
    root = location_of(path)
    storage = open_directory(path)
    metadata, index = load_metadata(storage, root, signer_of(None))
    entries = tuple(_listed_values(values_of_ranks(metadata), metadata, index))
    nbytes = on_disk = in_bases = 0
    for name, record in index.files.items() if index is not None else ():
        nbytes += record.nbytes
        on_disk += record.nbytes_on_disk
        in_bases += record.nbytes_on_disk if name.startswith("../") else 0
    if index is None:
        nbytes = on_disk = _files_nbytes(storage, entries)
    return SnapshotListing(
        path=root,
        metadata=metadata,
        index=index,
        entries=entries,
        nbytes=nbytes,
        nbytes_on_disk=on_disk,
        nbytes_in_bases=in_bases,
        bases=() if index is None else tuple(index.bases),
    )


def _listed_values(
    values: Iterable[RankValue], metadata: SnapshotMetadata, index: SnapshotIndex | None
) -> Iterator[Listed]:
    """Tensors that are spread over ranks are put together once: there may be a thousand ranks."""
    spread: dict[str, Listed] = {}
    for path, entry, same_as in values:
        if same_as is None:
            yield _listed(path, entry, metadata, index, spread)
        else:
            logical = path.partition("/")[2]
            yield Listed(path=logical, type=entry.type, rank=_rank_of(path), same_as=same_as)


def _listed(
    path: str,
    entry: Entry,
    metadata: SnapshotMetadata,
    index: SnapshotIndex | None,
    spread: dict[str, Listed],
) -> Listed:
    logical, rank = path.partition("/")[2], _rank_of(path)
    if isinstance(entry, TensorEntry):
        return _tensor(logical, rank, entry)
    if isinstance(entry, ChunkedTensorEntry):
        return _in_parts(logical, rank, entry.type, entry.dtype, tuple(entry.shape), entry.chunks)
    if isinstance(entry, (ShardedTensorEntry, DTensorEntry)):
        if logical not in spread:
            # Replicas of a shard are equal: by place there is one of each.
            parts = list({tuple(shard.offsets): shard for shard in metadata.shards.get(logical, ())}.values())
            dtype = parts[0].tensor.dtype if parts else "torch.uint8"
            spread[logical] = _in_parts(logical, rank, entry.type, dtype, _extent(parts), parts)
        files = tuple(dict.fromkeys(shard.tensor.location for shard in entry.shards))
        return replace(spread[logical], type=entry.type, rank=rank, files=files)
    if isinstance(entry, ObjectEntry):
        return Listed(
            path=logical,
            type=entry.type,
            nbytes=_file_nbytes(entry.location, index),
            detail=entry.obj_type,
            rank=rank,
            files=(entry.location,),
        )
    if isinstance(entry, PrimitiveEntry):
        value = _value(path, entry)
        return Listed(path=logical, type=entry.type, nbytes=text_nbytes(value), value=value, rank=rank)
    return Listed(path=logical, type=entry.type, rank=rank)


def _rank_of(path: str) -> int:
    text = path.partition("/")[0]
    return int(text) if text.isdecimal() and len(text) <= len(str(MAX_WORLD_SIZE)) else 0


def _value(path: str, entry: PrimitiveEntry) -> Any:
    try:
        return entry.get_value()
    except ValueError as error:
        raise CorruptionError(f"{path!r}: {error}", key=path) from error


def _tensor(path: str, rank: int, entry: TensorEntry) -> Listed:
    return Listed(
        path=path,
        type=entry.type,
        dtype=entry.dtype,
        shape=tuple(entry.shape),
        nbytes=_part_nbytes(entry),
        rank=rank,
        place=(entry.location, entry.byte_range),
        files=(entry.location,),
    )


def _in_parts(path: str, rank: int, kind: str, dtype: str, shape: tuple[int, ...], parts: Sequence[Shard]) -> Listed:
    places = tuple((part.tensor.location, part.tensor.byte_range) for part in parts)
    return Listed(
        path=path,
        type=kind,
        dtype=dtype,
        shape=shape,
        nbytes=sum(_part_nbytes(part.tensor) or 0 for part in parts),
        rank=rank,
        place=xxh3_128_digest(ascii(places).encode("ascii")),  # short: it is compared with those of all other ranks
        files=tuple(dict.fromkeys(location for location, _ in places)),
    )


def _extent(parts: list[Shard]) -> tuple[int, ...]:
    ends = [[offset + size for offset, size in zip(part.offsets, part.sizes, strict=False)] for part in parts]
    return tuple(max(column) for column in zip(*ends, strict=False))


def _part_nbytes(entry: TensorEntry) -> int | None:
    if entry.byte_range is not None:
        return entry.byte_range[1] - entry.byte_range[0]
    return tensor_nbytes(entry.dtype, entry.shape)


def _file_nbytes(location: str, index: SnapshotIndex | None) -> int | None:
    record = None if index is None else index.files.get(location)
    return None if record is None else record.nbytes


def _files_nbytes(storage: Directory, entries: tuple[Listed, ...]) -> int:
    """Of a snapshot without an index: what its storage says."""
    sizes = Sizes(storage)
    return sum(sizes.of(name) for name in {name for entry in entries for name in entry.files})

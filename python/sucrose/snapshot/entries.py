"""Looking things up in a manifest, and checking what is found there before it is believed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice

from sucrose.errors import CorruptionError, StateMismatchError
from sucrose.formats.limits import MAX_DIMENSION, MAX_NDIM, MAX_SIMILAR_SEARCHED, MAX_TENSOR_NBYTES
from sucrose.formats.manifest import (
    BUFFER_PROTOCOL,
    BUFFER_PROTOCOL_ZSTD,
    TORCH_SAVE,
    ChunkedTensorEntry,
    DTensorEntry,
    Entry,
    Shard,
    ShardedTensorEntry,
    SharedEntry,
    SnapshotMetadata,
    TensorEntry,
)
from sucrose.snapshot.sharding.boxes import Box, overlaps
from sucrose.snapshot.sharding.many_boxes import edges_of
from sucrose.snapshot.tensors import DTYPES, dense_nbytes
from sucrose.snapshot.tiling import tiles


def find_entry(metadata: SnapshotMetadata, path: str) -> Entry:
    """The entry at ``"<rank>/<logical path>"``: what that rank has saved, or what all ranks share.

    Raises:
        StateMismatchError: there is none; the message lists near matches, or the ranks that have saved it.
    """
    entry = entry_at(metadata, path)
    if entry is not None:
        return entry
    ranks = ranks_with(metadata, path)
    if ranks:
        raise StateMismatchError(saved_per_rank(path, ranks), key=path)
    near = difflib.get_close_matches(path, islice(metadata.manifest, MAX_SIMILAR_SEARCHED), n=3)
    hint = f"; near matches: {', '.join(map(repr, near))}" if near else ""
    raise StateMismatchError(f"{path!r} is not in the snapshot{hint}", key=path)


def entry_at(metadata: SnapshotMetadata, path: str) -> Entry | None:
    """The same; None where there is none.

    Containers of another rank answer for a rank that has none there. Whatever is in them has to be looked up in
    the same way: values that were saved per rank are for their own ranks.
    """
    entry = metadata.manifest.get(path)
    if entry is not None:
        return entry
    shared = shared_entry(metadata, path)
    return None if shared is None else shared.entry


def shared_entry(metadata: SnapshotMetadata, path: str) -> SharedEntry | None:
    """What other ranks have saved at `path` and any rank may use: all of it where there was only one rank."""
    rank, separator, logical = path.partition("/")
    if not separator or not rank.isdecimal():
        return None
    if metadata.world_size == 1:
        entry = metadata.manifest.get(f"0/{logical}")
        return None if entry is None else SharedEntry(0, entry)
    if len(metadata.of_many_ranks.shards.get(logical, ())) > 1:
        return None  # meshes side by side: nobody can tell which value is meant
    return metadata.of_many_ranks.shared.get(logical)


def ranks_with(metadata: SnapshotMetadata, path: str) -> list[int]:
    """The ranks that have saved something of their own at this path, whichever rank it begins with."""
    rank, separator, logical = path.partition("/")
    if not separator or not rank.isdecimal():
        return []
    return [other for other in range(metadata.world_size) if f"{other}/{logical}" in metadata.manifest]


def saved_per_rank(path: str, ranks: Sequence[int]) -> str:
    """Says why a rank cannot have what others have saved at the same path, and what to do."""
    logical = path.partition("/")[2]
    consecutive = len(ranks) > 1 and ranks[-1] - ranks[0] + 1 == len(ranks)
    names = f"{ranks[0]}..{ranks[-1]}" if consecutive else ", ".join(map(str, ranks))
    return (
        f"{path!r} is not in the snapshot: {logical!r} was saved per rank, by {'ranks' if len(ranks) > 1 else 'rank'} "
        f"{names}. read_object({f'{ranks[0]}/{logical}'!r}) reads one; what is equal on all ranks can be saved for any "
        "number of them with replicated=[...]"
    )


def is_fully_replicated(entry: Entry) -> bool:
    """Whether every rank has the same value."""
    if isinstance(entry, DTensorEntry):
        return all(dims == [-1] for dims in entry.dim_map)
    return bool(getattr(entry, "replicated", False))


def is_spread(entry: Entry) -> bool:
    """Whether it is one rank's part of a tensor."""
    return isinstance(entry, (ShardedTensorEntry, DTensorEntry))


def shards_of(metadata: SnapshotMetadata, path: str, entry: Entry) -> tuple[str, list[int], list[Shard]]:
    """dtype, shape and parts of a tensor that is stored in parts, those of other ranks included.

    Raises:
        CorruptionError: the parts do not make up a tensor.
    """
    dtype, shape, parts = parts_of(metadata, path, entry)
    check_parts(path, dtype, shape, parts)
    return dtype, shape, parts


def parts_of(metadata: SnapshotMetadata, path: str, entry: Entry) -> tuple[str, list[int], list[Shard]]:
    """The same, before `check_parts` has been called for those that are used."""
    if isinstance(entry, TensorEntry):
        return entry.dtype, entry.shape, [Shard([0] * len(entry.shape), entry.shape, entry)]
    if isinstance(entry, ChunkedTensorEntry):
        check_dtype_and_shape(path, entry.dtype, entry.shape)
        return entry.dtype, entry.shape, entry.chunks
    if not isinstance(entry, (ShardedTensorEntry, DTensorEntry)):
        raise TypeError(f"{path!r} is a {entry.type}")
    by_mesh = metadata.of_many_ranks.shards.get(path.partition("/")[2], {})
    # Meshes side by side may have tensors of the same name and different values.
    mesh = str(entry.mesh) if isinstance(entry, DTensorEntry) else ""
    parts: dict[tuple[int, ...], Shard] = {}  # by place: replicas of a shard are equal
    for shard in by_mesh.get(mesh, ()):
        parts.setdefault(tuple(shard.offsets), shard)
    if not parts:
        raise CorruptionError(f"{path!r} has no shards", key=path)
    found = list(parts.values())
    dtype = found[0].tensor.dtype
    shape = edges_of(path, found).shape()
    check_dtype_and_shape(path, dtype, shape)
    return dtype, shape, found


def check_parts(path: str, dtype: str, shape: Sequence[int], parts: Sequence[Shard], box: Box | None = None) -> None:
    """Checks that parts lie inside the tensor, are what they say, and cover it once, or only `box` of it.

    Raises:
        CorruptionError: they do not.
    """
    box = box or Box((0,) * len(shape), tuple(shape))
    for part in parts:
        check_tensor_entry(path, part.tensor)
        fits = len(part.offsets) == len(part.sizes) == len(shape) and all(
            offset >= 0 and size >= 0 and offset + size <= limit
            for offset, size, limit in zip(part.offsets, part.sizes, shape, strict=True)
        )
        if not fits or part.tensor.shape != part.sizes or part.tensor.dtype != dtype:
            raise CorruptionError(f"{path!r}: a part at {part.offsets} does not fit {list(shape)}", key=path)
    boxes = [Box(tuple(part.offsets), tuple(part.sizes)) for part in parts]
    if not tiles(box.sizes, [found.box.within(box) for found in overlaps(box, boxes)]):
        raise CorruptionError(f"{path!r}: its parts do not cover {list(shape)} exactly", key=path)


def check_dtype_and_shape(path: str, dtype: str, shape: list[int]) -> int:
    """Bytes of such a tensor. Raises CorruptionError for what no tensor of this torch can be."""
    known = DTYPES.get(dtype)
    if known is None:
        raise CorruptionError(f"{path!r} has the dtype {dtype!r}, which this version of torch does not know", key=path)
    if shape and (len(shape) > MAX_NDIM or min(shape) < 0 or max(shape) > MAX_DIMENSION):
        raise CorruptionError(f"{path!r} has the impossible shape {shape}", key=path)
    nbytes = dense_nbytes(known, shape)
    if nbytes > MAX_TENSOR_NBYTES:
        raise CorruptionError(f"{path!r} has the shape {shape}: {nbytes} bytes, which no file can have", key=path)
    return nbytes


def check_tensor_entry(path: str, entry: TensorEntry) -> int:
    """Checks that dtype, shape, byte range and serializer belong together.

    Returns:
        The bytes of its elements.

    Raises:
        CorruptionError: they do not.
    """
    nbytes = check_dtype_and_shape(path, entry.dtype, entry.shape)
    if entry.serializer not in (BUFFER_PROTOCOL, BUFFER_PROTOCOL_ZSTD):
        if entry.serializer == TORCH_SAVE:
            return nbytes
        raise CorruptionError(
            f"{path!r} has the serializer {entry.serializer!r}, which this release does not know",
            key=path,
        )
    if entry.byte_range is not None:
        begin, end = entry.byte_range
        if begin < 0 or end - begin != nbytes:
            raise CorruptionError(
                f"{path!r} has the byte range {begin}:{end}, expected {nbytes} bytes for {entry.dtype} {entry.shape}",
                key=path,
            )
    return nbytes

"""Looking things up in a manifest, and checking what is found there before it is believed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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
    Manifest,
    Shard,
    ShardedTensorEntry,
    SnapshotMetadata,
    TensorEntry,
)
from sucrose.snapshot.tensors import DTYPES, dense_nbytes
from sucrose.snapshot.tiling import tiles


def find_entry(metadata: SnapshotMetadata, path: str) -> Entry:
    """The entry at ``"<rank>/<logical path>"``; replicated ones answer for any rank.

    Raises:
        StateMismatchError: there is none; the message lists near matches.
    """
    manifest = metadata.manifest
    entry = manifest.get(path)
    if entry is not None:
        return entry
    rank, separator, logical = path.partition("/")
    if separator and rank.isdecimal():
        for other in range(metadata.world_size):
            candidate = manifest.get(f"{other}/{logical}")
            if candidate is not None and is_fully_replicated(candidate):
                return candidate
    near = difflib.get_close_matches(path, islice(manifest, MAX_SIMILAR_SEARCHED), n=3)
    hint = f"; near matches: {', '.join(map(repr, near))}" if near else ""
    raise StateMismatchError(f"{path!r} is not in the snapshot{hint}", key=path)


def is_fully_replicated(entry: Entry) -> bool:
    """Whether every rank has the same value."""
    return bool(getattr(entry, "replicated", False))


def shards_of(metadata: SnapshotMetadata, path: str, entry: Entry) -> tuple[str, list[int], list[Shard]]:
    """dtype, shape and parts of a tensor that is stored in parts, those of other ranks included.

    Raises:
        CorruptionError: the parts do not make up a tensor.
    """
    if isinstance(entry, ChunkedTensorEntry):
        return _checked(path, entry.dtype, entry.shape, entry.chunks)
    if not isinstance(entry, (ShardedTensorEntry, DTensorEntry)):
        raise TypeError(f"{path!r} is a {entry.type}")
    logical = path.partition("/")[2]
    shards: dict[tuple[int, ...], Shard] = {}  # by place: replicas of a shard are equal
    for shard in metadata.shards.get(logical, ()):
        shards.setdefault(tuple(shard.offsets), shard)
    if not shards:
        raise CorruptionError(f"{path!r} has no shards", key=path)
    parts = list(shards.values())
    ndim = len(parts[0].offsets)
    if any(len(s.offsets) != ndim or len(s.sizes) != ndim for s in parts):
        raise CorruptionError(f"{path!r} has shards of different ranks", key=path)
    shape = [max(s.offsets[d] + s.sizes[d] for s in parts) for d in range(ndim)]
    return _checked(path, parts[0].tensor.dtype, shape, parts)


def _checked(path: str, dtype: str, shape: list[int], parts: Iterable[Shard]) -> tuple[str, list[int], list[Shard]]:
    """Parts lie inside the tensor, have as many elements as it, and are what they say."""
    kept = list(parts)
    check_dtype_and_shape(path, dtype, shape)
    for part in kept:
        check_tensor_entry(path, part.tensor)
        fits = len(part.offsets) == len(part.sizes) == len(shape) and all(
            offset >= 0 and size >= 0 and offset + size <= limit
            for offset, size, limit in zip(part.offsets, part.sizes, shape, strict=True)
        )
        if not fits or part.tensor.shape != part.sizes or part.tensor.dtype != dtype:
            raise CorruptionError(f"{path!r}: a part at {part.offsets} does not fit {shape}", key=path)
    if not tiles(shape, [(part.offsets, part.sizes) for part in kept]):
        raise CorruptionError(f"{path!r}: its parts do not cover {shape} exactly", key=path)
    return dtype, shape, kept


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


def children(manifest: Manifest, path: str) -> Iterable[str]:
    """Paths of the entries right below the list at `path`, in order."""
    index = 0
    while (child := f"{path}/{index}") in manifest:
        yield child
        index += 1

"""Where the bytes of tensors lie in files, as lists of segments: pure functions.

A manifest lists a tensor as one entry, or as several that cover it. Those whose parts follow each other in row-major
order are read as segments of the tensor's bytes, which can be cut and put together anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from sucrose.formats.manifest import (
    BUFFER_PROTOCOL,
    BUFFER_PROTOCOL_ZSTD,
    ChunkedTensorEntry,
    Entry,
    Shard,
    TensorEntry,
)

_BYTES = frozenset({BUFFER_PROTOCOL, BUFFER_PROTOCOL_ZSTD})


class Segment(NamedTuple):
    """Bytes [begin, end) of a tensor, and the file that has them from `offset` on."""

    begin: int
    end: int
    location: str
    serializer: str
    offset: int

    def cut(self, begin: int, end: int) -> Segment:
        """The part of it in [begin, end), which it overlaps."""
        first = max(begin, self.begin)
        return self._replace(begin=first, end=min(end, self.end), offset=self.offset + first - self.begin)

    def continues(self, other: Segment) -> bool:
        """Whether it comes right after `other`, in the tensor and in the file."""
        return (
            self.begin == other.end
            and (self.location, self.serializer) == (other.location, other.serializer)
            and self.offset == other.offset + other.end - other.begin
        )


def segments_of(entry: Entry, dtype: str, shape: Sequence[int], itemsize: int) -> list[Segment] | None:
    """In order; None where the entry is no such tensor, or its bytes do not lie in files like that."""
    if isinstance(entry, TensorEntry):
        parts = [Shard([0] * len(entry.shape), entry.shape, entry)]
    elif isinstance(entry, ChunkedTensorEntry):
        parts = entry.chunks
    else:
        return None
    if (entry.dtype, entry.shape) != (dtype, list(shape)):
        return None
    segments = []
    for part in parts:
        segment = _segment(part, entry.dtype, entry.shape, itemsize)
        if segment is None:
            return None
        segments.append(segment)
    segments.sort()
    ends = [0, *(segment.end for segment in segments)]
    nbytes = math.prod(shape) * itemsize
    covers = ends[-1] == nbytes and all(segment.begin == end for segment, end in zip(segments, ends, strict=False))
    return segments if covers else None


def cut_out(segments: Iterable[Segment], begin: int, end: int) -> list[Segment]:
    """Those parts of ordered segments that lie in [begin, end)."""
    return [segment.cut(begin, end) for segment in segments if segment.begin < end and begin < segment.end]


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Ordered segments with those put together that follow each other in one file."""
    result: list[Segment] = []
    for segment in segments:
        if result and segment.continues(result[-1]):
            result[-1] = result[-1]._replace(end=segment.end)
        else:
            result.append(segment)
    return result


def entry_of(segments: Sequence[Segment], dtype: str, shape: Sequence[int], dim: int) -> Entry:
    """What the manifest has of a tensor whose segments, cut between rows of `dim`, are these."""
    first = segments[0]
    byte_range = (first.offset, first.offset + first.end - first.begin)
    whole = TensorEntry(first.location, first.serializer, dtype, list(shape), False, byte_range)
    if len(segments) == 1:
        return whole
    row_nbytes = segments[-1].end // shape[dim]
    chunks = []
    for segment in segments:
        begin, end = segment.begin // row_nbytes, segment.end // row_nbytes
        offsets = [begin if at == dim else 0 for at in range(len(shape))]
        sizes = [end - begin if at == dim else size for at, size in enumerate(shape)]
        part = msgspec.structs.replace(
            whole,
            location=segment.location,
            serializer=segment.serializer,
            shape=sizes,
            byte_range=(segment.offset, segment.offset + segment.end - segment.begin),
        )
        chunks.append(Shard(offsets, sizes, part))
    return ChunkedTensorEntry(dtype, list(shape), chunks, False)


def _segment(part: Shard, dtype: str, shape: Sequence[int], itemsize: int) -> Segment | None:
    tensor = part.tensor
    is_plain = tensor.serializer in _BYTES and tensor.dtype == dtype and tensor.shape == part.sizes
    if not is_plain or len(part.sizes) != len(shape) or len(part.offsets) != len(shape):
        return None
    begin, step, is_cut = 0, itemsize, False
    for size, offset, limit in zip(part.sizes[::-1], part.offsets[::-1], shape[::-1], strict=True):
        if is_cut and size != 1:  # a gap follows each of its rows
            return None
        is_cut |= size != limit
        begin += offset * step
        step *= limit
    nbytes = math.prod(part.sizes) * itemsize
    offset, end = tensor.byte_range or (0, nbytes)
    if end - offset != nbytes or offset < 0:
        return None
    return Segment(begin, begin + nbytes, tensor.location, tensor.serializer, offset)

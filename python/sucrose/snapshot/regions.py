"""Parts of tensors that do not lie in one stretch of a file: rows, at equal distances.

A box of a larger tensor, which lies in its file in row-major order, consists of as many stretches as it
has rows. They are listed by vectorised arithmetic, when they are about to be read and not before: a
tensor that is sharded along its columns has thousands, and a model has thousands of tensors.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence

import msgspec
import torch

from sucrose.engine import Extents
from sucrose.snapshot.tensors import Memory, streams_of, strides_of

MAX_ROWS = 1 << 18
"""That are listed for one request; each takes 24 bytes, and in the engine 32 more."""

MIN_ROW_NBYTES = 64
"""Shorter rows are not worth a piece of their own: all that lies between them is read, too, and copied from."""


class Piece(msgspec.Struct, gc=False):
    """One stretch of a file, and the memory that it belongs to."""

    begin: int
    memory: Memory
    key: str
    """Logical path, for messages."""

    @property
    def end(self) -> int:
        """Where it ends in the file."""
        return self.begin + self.memory.nbytes

    @property
    def count(self) -> int:
        """Number of stretches."""
        return 1

    @property
    def target(self) -> tuple[object, ...]:
        """Equal for pieces that fill the same memory."""
        memory = self.memory
        return memory.device, memory.address, memory.nbytes, memory.strides


class Rows(msgspec.Struct, gc=False):
    """Stretches of `row_nbytes` bytes, `counts` many along each dimension, in file order."""

    begin: int
    memory: Memory
    """The box; keeps its owner alive."""
    key: str
    address: int
    row_nbytes: int
    counts: tuple[int, ...]
    file_strides: tuple[int, ...]
    memory_strides: tuple[int, ...]

    @property
    def end(self) -> int:
        """Where the last one ends in the file."""
        steps = zip(self.counts, self.file_strides, strict=True)
        return self.begin + sum((count - 1) * stride for count, stride in steps) + self.row_nbytes

    @property
    def count(self) -> int:
        """Number of stretches."""
        return math.prod(self.counts)

    @property
    def target(self) -> tuple[object, ...]:
        """Equal for rows that fill the same memory."""
        return self.memory.device, self.address, self.row_nbytes, self.counts, self.memory_strides

    def split(self, max_rows: int) -> Iterator[Rows]:
        """The same rows in groups of at most `max_rows`, in file order."""
        if self.count <= max_rows:
            yield self
            return
        counts, file_strides, memory_strides = self.counts, self.file_strides, self.memory_strides
        step = max(1, max_rows * counts[0] // self.count)
        for first in range(0, counts[0], step):
            number = min(step, counts[0] - first)
            kept = 1 if number == 1 and len(counts) > 1 else 0  # without the first dimension, where it is one
            yield from msgspec.structs.replace(
                self,
                begin=self.begin + first * file_strides[0],
                address=self.address + first * memory_strides[0],
                counts=(number, *counts[1:])[kept:],
                file_strides=file_strides[kept:],
                memory_strides=memory_strides[kept:],
            ).split(max_rows)


def rows_of_box(begin: int, box_strides: Sequence[int], memory: Memory, key: str) -> Piece | Rows:
    """How the box in `memory` is read from a file.

    Args:
        begin: of the box's first element, in the file.
        box_strides: in bytes, one for each dimension of the box: of the tensor in the file.
        memory: shape and strides of the box where it goes to.
        key: logical path, for messages.
    """
    itemsize = memory.tensor.element_size()
    shape = tuple(memory.tensor.shape)
    memory_strides = memory.strides or row_major(shape, itemsize)
    dimensions = _merged(shape, box_strides, memory_strides)
    if not dimensions or _is_contiguous([(size, stride) for size, stride, _ in dimensions], itemsize):
        return Piece(begin, memory, key)
    row_nbytes = itemsize
    if dimensions[-1][1] == dimensions[-1][2] == itemsize:
        row_nbytes *= dimensions.pop()[0]
    counts, file_strides, strides = zip(*dimensions, strict=True)
    return Rows(begin, memory, key, memory.address, row_nbytes, counts, file_strides, strides)


def row_major(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of a tensor without gaps.

    Example:
        >>> from sucrose.snapshot.regions import row_major
        >>> row_major([2, 3, 4], 2)
        (24, 8, 2)
    """
    strides = []
    for size in reversed(shape):
        strides.append(itemsize)
        itemsize *= size
    return tuple(reversed(strides))


def grouped(items: Sequence[Piece | Rows]) -> list[list[Piece | Rows]]:
    """The same stretches, in file order, in groups that are small enough for one request each."""
    if all(type(item) is Piece for item in items):
        return [list(items)]
    groups: list[list[Piece | Rows]] = [[]]
    count = 0
    for item in items:
        for part in item.split(MAX_ROWS) if isinstance(item, Rows) else [item]:
            if count + part.count > MAX_ROWS and groups[-1]:
                groups.append([])
                count = 0
            groups[-1].append(part)
            count += part.count
    return groups


def extents_of_regions(items: Sequence[Piece | Rows]) -> tuple[array[int], Extents]:
    """Where each stretch begins in the file, and where it goes to. `items` are in file order, without overlaps."""
    offsets = array("Q")
    extents = Extents()
    devices = array("b")
    for item in items:
        memory = item.memory
        if isinstance(item, Rows):
            offsets.extend(_places(item.begin, item.counts, item.file_strides))
            extents.addresses.extend(_places(item.address, item.counts, item.memory_strides))
            extents.nbytes.extend(array("Q", [item.row_nbytes]) * item.count)
        else:
            if memory.strides is not None:
                extents.strided.append(strides_of(memory, len(offsets)))
            offsets.append(item.begin)
            extents.append(memory.address, memory.nbytes)
        devices.extend(array("b", [memory.device]) * item.count)
        extents.keep_alive.append(memory)
    if max(devices) >= 0:
        extents.devices = devices
        extents.streams.update(streams_of(devices))
    return offsets, extents


def _places(first: int, counts: Sequence[int], strides: Sequence[int]) -> array[int]:
    """``first + i * strides[0] + j * strides[1] + …`` for all indices, the last one changing fastest."""
    places = array("Q", [0]) * math.prod(counts)
    total = torch.full((1,), first, dtype=torch.int64)
    for count, stride in zip(counts, strides, strict=True):
        total = (total[:, None] + torch.arange(count, dtype=torch.int64) * stride).flatten()
    torch.frombuffer(places, dtype=torch.int64).copy_(total)
    return places


def _merged(
    shape: Sequence[int], file_strides: Sequence[int], memory_strides: Sequence[int]
) -> list[tuple[int, int, int]]:
    """(size, stride in the file, stride in memory) of as few dimensions as describe the same box."""
    dimensions: list[tuple[int, int, int]] = []
    for size, in_file, in_memory in zip(shape, file_strides, memory_strides, strict=True):
        if size == 1:
            continue
        if dimensions:
            outer = dimensions[-1]
            if outer[1] == size * in_file and outer[2] == size * in_memory:
                dimensions[-1] = (outer[0] * size, in_file, in_memory)
                continue
        dimensions.append((size, in_file, in_memory))
    return dimensions


def _is_contiguous(dimensions: Sequence[tuple[int, int]], itemsize: int) -> bool:
    """Whether elements with these (size, stride) lie side by side, in order."""
    expected = itemsize
    for size, stride in reversed(dimensions):
        if stride != expected:
            return False
        expected *= size
    return True

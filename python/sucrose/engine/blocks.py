"""Extents taken apart into blocks that plain Python can copy: runs, and rows with one stride."""

from __future__ import annotations

import ctypes
import itertools
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sucrose.engine.base import CHUNK_NBYTES, Extents, Strides

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# A memoryview copies elements of these sizes with any stride in one assignment.
_FORMATS: dict[int, Literal["B", "H", "I", "Q"]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """`count` elements of `itemsize` bytes, `stride` bytes apart; at most one chunk of bytes."""

    extent: int
    offset: int
    """Of the first element, in the extent's bytes."""
    address: int
    count: int
    stride: int
    itemsize: int

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, without the gaps."""
        return self.count * self.itemsize

    def gather(self) -> memoryview:
        """The elements' bytes, one after another."""
        if self.stride == self.itemsize:
            return memory_at(self.address, self.nbytes)
        if self._steps_over_elements:
            packed = bytearray(self.nbytes)
            target = memoryview(packed).cast(_FORMATS[self.itemsize])
            target[:] = self._strided_view()
            return memoryview(packed)
        return memoryview(b"".join(memory_at(item, self.itemsize) for item in self._items()))

    def scatter(self, data: memoryview) -> None:
        """Fills the elements from `data`, the inverse of `gather`."""
        if self.stride == self.itemsize:
            memory_at(self.address, self.nbytes)[:] = data
        elif self._steps_over_elements:
            # Through a copy: a cast demands a view that starts where its buffer does.
            self._strided_view()[:] = memoryview(bytes(data)).cast(_FORMATS[self.itemsize])
        else:
            for index, item in enumerate(self._items()):
                start = index * self.itemsize
                memory_at(item, self.itemsize)[:] = data[start : start + self.itemsize]

    @property
    def _steps_over_elements(self) -> bool:
        whole = self.itemsize in _FORMATS and self.stride % self.itemsize == 0
        return whole and self.stride != 0

    def _strided_view(self) -> memoryview[int]:
        span = (self.count - 1) * self.stride
        low = self.address + min(span, 0)
        elements = memory_at(low, abs(span) + self.itemsize).cast(_FORMATS[self.itemsize])
        return elements[:: self.stride // self.itemsize]

    def _items(self) -> Iterator[int]:
        return (self.address + index * self.stride for index in range(self.count))


def memory_at(address: int, nbytes: int) -> memoryview:
    """`nbytes` bytes (at least one) at `address`, in place."""
    return memoryview((ctypes.c_ubyte * nbytes).from_address(address)).cast("B")


def blocks_of(extents: Extents) -> Iterator[Block]:
    """All bytes of `extents` in file order."""
    strided = {layout.extent: layout for layout in extents.strided}
    for extent, (address, nbytes) in enumerate(zip(extents.addresses, extents.nbytes, strict=True)):
        if nbytes == 0:
            continue
        layout = strided.get(extent)
        if layout is None:
            rows: Iterator[tuple[int, int, int, int]] = iter([(address, nbytes, 1, 1)])
        else:
            rows = _rows(address, nbytes, layout)
        offset = 0
        for start, count, stride, itemsize in rows:
            for block in _split(extent, offset, start, count, stride, itemsize):
                yield block
                offset += block.nbytes


def chunks_of(sources: Extents) -> Iterator[memoryview]:
    """The file's bytes, chunk by chunk; a chunk is valid until the next one is asked for."""
    chunk = memoryview(bytearray(min(CHUNK_NBYTES, sum(sources.nbytes))))
    filled = 0
    for block in blocks_of(sources):
        data = block.gather()
        while data:
            taken = min(len(data), len(chunk) - filled)
            chunk[filled : filled + taken] = data[:taken]
            filled += taken
            data = data[taken:]
            if filled == CHUNK_NBYTES:
                yield chunk
                filled = 0
    if filled:
        yield chunk[:filled]


def crc32s_of(extents: Extents) -> list[int]:
    """CRC-32 (as zlib's) of each extent, all of which must be contiguous."""
    if extents.strided:
        raise ValueError("crc32 takes contiguous extents only")
    return [
        zlib.crc32(memory_at(address, nbytes)) if nbytes else 0
        for address, nbytes in zip(extents.addresses, extents.nbytes, strict=True)
    ]


def _split(extent: int, offset: int, address: int, count: int, stride: int, itemsize: int) -> Iterator[Block]:
    step = max(1, CHUNK_NBYTES // itemsize)
    for first in range(0, count, step):
        yield Block(
            extent=extent,
            offset=offset + first * itemsize,
            address=address + first * stride,
            count=min(step, count - first),
            stride=stride,
            itemsize=itemsize,
        )


def _rows(address: int, nbytes: int, layout: Strides) -> Iterator[tuple[int, int, int, int]]:
    """(address, count, stride, itemsize) of the innermost rows, in row-major order."""
    if math.prod(layout.shape) * layout.itemsize != nbytes:
        raise ValueError(f"shape {layout.shape} of {layout.itemsize} bytes each is not {nbytes} bytes")
    dims = [(size, stride) for size, stride in zip(layout.shape, layout.strides, strict=True) if size != 1]
    run = layout.itemsize
    while dims and dims[-1][1] == run:
        run *= dims.pop()[0]
    if run > layout.itemsize or not dims:
        count, stride, itemsize = run, 1, 1
    else:
        count, stride = dims.pop()
        itemsize = layout.itemsize
    for start in _starts(address, dims):
        yield start, count, stride, itemsize


def _starts(address: int, dims: Sequence[tuple[int, int]]) -> Iterator[int]:
    steps = [range(0, size * stride, stride) if stride else [0] * size for size, stride in dims]
    for combination in itertools.product(*steps):
        yield address + sum(combination)

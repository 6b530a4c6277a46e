"""Parts of a file, coming in any order, taken to where they are wanted."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

from sucrose.engine.blocks import blocks_of

if TYPE_CHECKING:
    from sucrose.engine.base import Extents


class Scattering:
    """Fills extents from parts of a file. Not thread-safe."""

    def __init__(self, offsets: array[int], destinations: Extents) -> None:
        self._blocks = list(blocks_of(destinations))
        self._begins = [offsets[block.extent] + block.offset for block in self._blocks]
        self._pieces: dict[int, bytearray] = {}  # of blocks that have come in part
        self._missing: dict[int, int] = {}

    def wanted(self, begin: int, end: int) -> tuple[int, int]:
        """The part of the file within [begin, end) that has all that is wanted of it; empty if nothing is."""
        first = end
        last = begin
        for index in self._overlapping(begin, end):
            first = min(first, max(begin, self._begins[index]))
            last = max(last, min(end, self._begins[index] + self._blocks[index].nbytes))
        return (first, last) if first < last else (begin, begin)

    def take(self, begin: int, data: memoryview) -> None:
        """Moves `data`, the file's bytes from `begin` on, to where they are wanted."""
        end = begin + len(data)
        for index in self._overlapping(begin, end):
            block = self._blocks[index]
            at = self._begins[index]
            if begin <= at and at + block.nbytes <= end:
                block.scatter(data[at - begin : at - begin + block.nbytes])
                continue
            first, last = max(begin, at), min(end, at + block.nbytes)
            pieces = self._pieces.setdefault(index, bytearray(block.nbytes))
            pieces[first - at : last - at] = data[first - begin : last - begin]
            self._missing[index] = self._missing.get(index, block.nbytes) - (last - first)
            if self._missing[index] == 0:
                block.scatter(memoryview(self._pieces.pop(index)))

    def _overlapping(self, begin: int, end: int) -> range:
        first = bisect_right(self._begins, begin) - 1
        if first < 0 or self._begins[first] + self._blocks[first].nbytes <= begin:
            first += 1
        last = first
        while last < len(self._begins) and self._begins[last] < end:
            last += 1
        return range(first, last)

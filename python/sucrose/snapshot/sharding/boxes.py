"""Boxes of a tensor's elements, and where they meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangular part of a tensor."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of its elements."""
        return math.prod(self.sizes)

    def within(self, outer: Box) -> Box:
        """The same box, counted from the first element of `outer`."""
        return Box(tuple(a - b for a, b in zip(self.offsets, outer.offsets, strict=True)), self.sizes)


class Overlap(NamedTuple):
    """What a box shares with one of several others."""

    number: int
    """Of that other box."""
    box: Box
    """In the whole tensor."""


def intersection(one: Box, other: Box) -> Box | None:
    """The elements that both have; None where there are none.

    Example:
        >>> from sucrose.snapshot.sharding.boxes import Box, intersection
        >>> intersection(Box((0, 0), (4, 4)), Box((2, 3), (4, 4)))
        Box(offsets=(2, 3), sizes=(2, 1))
        >>> intersection(Box((0,), (4,)), Box((4,), (4,)))
    """
    offsets, sizes = [], []
    for a, a_size, b, b_size in zip(one.offsets, one.sizes, other.offsets, other.sizes, strict=True):
        begin = max(a, b)
        size = min(a + a_size, b + b_size) - begin
        if size <= 0:
            return None
        offsets.append(begin)
        sizes.append(size)
    return Box(tuple(offsets), tuple(sizes))


def overlaps(target: Box, sources: Sequence[Box]) -> list[Overlap]:
    """What of `target` lies in which of `sources`, in their order.

    Example:
        >>> from sucrose.snapshot.sharding.boxes import Box, overlaps
        >>> [found.number for found in overlaps(Box((3,), (2,)), [Box((0,), (4,)), Box((4,), (4,)), Box((8,), (4,))])]
        [0, 1]
    """
    found = []
    for index, source in enumerate(sources):
        box = intersection(target, source)
        if box is not None:
            found.append(Overlap(index, box))
    return found

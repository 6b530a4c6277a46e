"""Whether boxes make up a larger box, each of its cells once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

from sucrose.formats.limits import MAX_SPLIT_DIMENSIONS


def tiles(shape: Sequence[int], boxes: Sequence[tuple[Sequence[int], Sequence[int]]]) -> bool:
    """Whether the boxes, which lie inside of `shape`, cover all of it without overlaps.

    Where they do, each corner is one of an even number of boxes, but for the corners of the whole. The reverse is true
    as well: a sum of boxes is known, modulo two, by its corners, so that each cell is then covered an odd number of
    times; and if the volumes add up to that of the whole, once.

    Args:
        shape: of the whole, which begins at zero.
        boxes: offsets and sizes of each. Splits along more than 8 dimensions count as no cover.

    Example:
        >>> from sucrose.snapshot.tiling import tiles
        >>> tiles([4, 2], [([0, 0], [1, 2]), ([1, 0], [3, 2])])
        True
        >>> tiles([4, 2], [([0, 0], [2, 2]), ([0, 0], [2, 2])])
        False
    """
    if sum(math.prod(sizes) for _, sizes in boxes) != math.prod(shape):
        return False
    if math.prod(shape) == 0:
        return True
    split = [dim for dim, length in enumerate(shape) if any(sizes[dim] != length for _, sizes in boxes)]
    if len(split) > MAX_SPLIT_DIMENSIONS:
        return False
    odd: set[tuple[int, ...]] = set()
    for offsets, sizes in boxes:
        if math.prod(sizes):  # one without cells has each corner twice
            odd ^= set(product(*((offsets[dim], offsets[dim] + sizes[dim]) for dim in split)))
    return odd == set(product(*((0, shape[dim]) for dim in split)))

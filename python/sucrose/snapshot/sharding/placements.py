"""Which elements of a dimension a rank has, as the placements of a DTensor say.

torch keeps the elements of a rank as a list of runs, which the placements cut one after another, from
the first dimension of the mesh to the last. A plain `Shard` leaves one run; FSDP2 with tensor
parallelism shards in the other order, which `_StridedShard` writes down, and which may leave several.
The rules are those of `torch.distributed.tensor.placement_types`, where the functions for it have
changed with every other release, and tell no more than the first offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Run(NamedTuple):
    """Elements [begin, begin + size) of a dimension."""

    begin: int
    size: int


def shard_of_runs(runs: Sequence[Run], count: int, index: int) -> list[Run]:
    """What part `index` of `count` gets: as `torch.chunk` cuts, the last ones with less or with nothing.

    Example:
        >>> from sucrose.snapshot.sharding.placements import Run, shard_of_runs
        >>> [shard_of_runs([Run(0, 5)], 4, index) for index in range(4)]
        [[Run(begin=0, size=2)], [Run(begin=2, size=2)], [Run(begin=4, size=1)], []]
    """
    total = sum(run.size for run in runs)
    per_part = -(-total // count)
    return _elements(runs, min(index * per_part, total), min((index + 1) * per_part, total))


def strided_shard_of_runs(runs: Sequence[Run], split_factor: int, count: int, index: int) -> list[Run]:
    """What part `index` of `count` gets of each of `split_factor` parts: those are sharded before, not after."""
    return joined(
        run
        for split in range(split_factor)
        for run in shard_of_runs(shard_of_runs(runs, split_factor, split), count, index)
    )


def joined(runs: Iterable[Run]) -> list[Run]:
    """The same elements in as few runs as possible."""
    result: list[Run] = []
    for run in runs:
        if result and result[-1].begin + result[-1].size == run.begin:
            result[-1] = Run(result[-1].begin, result[-1].size + run.size)
        else:
            result.append(run)
    return result


def _elements(runs: Sequence[Run], begin: int, end: int) -> list[Run]:
    """Elements [begin, end) of the runs' own, counted through all of them."""
    result = []
    at = 0
    for run in runs:
        first, last = max(begin - at, 0), min(end - at, run.size)
        if first < last:
            result.append(Run(run.begin + first, last - first))
        at += run.size
    return result

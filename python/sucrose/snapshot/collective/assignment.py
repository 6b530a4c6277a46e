"""Who writes what: pure functions, with the same result on all ranks."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sucrose.snapshot.collective.replicated_values import ReplicatedValue


def writers_of_replicated(values: Iterable[ReplicatedValue], world_size: int) -> dict[str, int]:
    """The rank that writes each of the values: the largest first, to the rank that has least to write.

    Tied tensors stay together, and what stands in the manifest is rank 0's.

    Example:
        >>> from sucrose.snapshot.collective.assignment import writers_of_replicated
        >>> from sucrose.snapshot.collective.replicated_values import ReplicatedValue
        >>> sizes = {"a": 50, "b": 30, "c": 30, "d": 0}
        >>> writers_of_replicated([ReplicatedValue(path, "", (), nbytes) for path, nbytes in sizes.items()], 2)
        {'a': 0, 'b': 1, 'c': 1, 'd': 0}
    """
    kept = list(values)
    known = {value.path for value in kept}
    loads = [(0, rank) for rank in range(world_size)]
    writers: dict[str, int] = {}
    tied = [value for value in kept if value.tied_to in known]
    free = [value for value in kept if value.tied_to not in known]
    fixed = {value.path for value in free if value.is_of_rank_0}
    fixed.update(value.tied_to for value in tied if value.is_of_rank_0)
    for value in free:
        if value.path in fixed or value.nbytes == 0:
            writers[value.path] = 0
    loads[0] = (sum(value.nbytes for value in free if value.path in fixed), 0)
    heapq.heapify(loads)
    for value in sorted(free, key=lambda value: (-value.nbytes, value.path)):
        if value.path not in writers:
            load, rank = loads[0]
            writers[value.path] = rank
            heapq.heapreplace(loads, (load + value.nbytes, rank))
    writers.update((value.path, writers[value.tied_to]) for value in tied)
    return writers


class HeldShards(NamedTuple):
    """The shards of one tensor that several ranks hold alike."""

    path: str
    nbytes: int
    holders: tuple[int, ...]


def writers_of_shards(held: Iterable[HeldShards]) -> dict[str, int]:
    """The holder that writes the shards of each path, likewise.

    Ranks that hold the same boxes of one tensor do so of most, and only those of one's own are known: so the loads
    are counted for each set of holders by itself.
    """
    of_holders: dict[Sequence[int], list[HeldShards]] = {}
    for shards in held:
        of_holders.setdefault(shards.holders, []).append(shards)
    writers: dict[str, int] = {}
    for holders, group in of_holders.items():
        loads = [(0, position) for position in range(len(holders))]
        for shards in sorted(group, key=lambda shards: (-shards.nbytes, shards.path)):
            load, position = loads[0]
            writers[shards.path] = holders[position]
            heapq.heapreplace(loads, (load + shards.nbytes, position))
    return writers

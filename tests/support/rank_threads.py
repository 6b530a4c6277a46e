"""Ranks that are threads of this process, with one store."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from sucrose.ranks import Ranks
from sucrose.ranks.members import Members
from sucrose.ranks.operation_store import OperationStore
from sucrose.ranks.ranks import _Group
from sucrose.ranks.store_exchange import StoreExchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch._C._distributed_c10d import Store


def exchange_of(
    store: Store, rank: int, world_size: int, *, what: str = "taking a snapshot", number: int = 1, timeout_s: float = 60
) -> StoreExchange:
    """The part of one rank in an operation."""
    members = Members(rank=rank, global_ranks=tuple(range(world_size)))
    return StoreExchange(OperationStore(store, number, (0,)), members, what, timeout_s)


def ranks_of(store: Store, rank: int, world_size: int) -> Ranks:
    """One rank of those that share `store`."""
    return Ranks(Members(rank=rank, global_ranks=tuple(range(world_size))), _Group(os.getpid(), store))


def run_threads(world_size: int, run: Callable[[int], Any]) -> list[Any]:
    """Calls `run` with each rank, in threads, and returns what each has returned or raised."""

    def outcome(rank: int) -> Any:
        try:
            return run(rank)
        except BaseException as error:  # noqa: BLE001  # what it was is what tests ask
            return error

    with ThreadPoolExecutor(world_size) as threads:
        return list(threads.map(outcome, range(world_size)))

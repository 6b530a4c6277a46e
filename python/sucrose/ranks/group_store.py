"""The store of a process group: which it is, and a connection to it that is ours alone.

A client of a TCPStore answers one request at a time. torch itself waits on the program's client, for minutes where it
makes communicators, so what goes on in the background needs another one.
"""

from __future__ import annotations

import os
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, cast

from sucrose.errors import RankError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch.distributed as dist
    from torch._C._distributed_c10d import Store

_CONNECT_TIMEOUT_S = 60.0


def exists(pg: dist.ProcessGroup) -> bool:
    """Whether torch knows the group: not once it was destroyed."""
    from torch.distributed import distributed_c10d

    return pg in distributed_c10d._world.pg_map  # noqa: SLF001  # no public name leads there


def store_of(pg: dist.ProcessGroup) -> Store:
    """The store by which `pg` was set up, with the prefix that torch gave the group.

    Raises:
        RankError: it was set up without.
    """
    from torch.distributed import distributed_c10d

    _, store = distributed_c10d._world.pg_map[pg]  # noqa: SLF001  # no public name leads there
    if store is None:
        raise RankError("the process group has no store, as those of MPI: use one of gloo, nccl or another backend")
    return store


def keepers_of(global_ranks: Sequence[int]) -> tuple[int, ...]:
    """The ranks of a group that keep the store in their process: rank 0 of the job, if torchrun does not."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" or 0 not in global_ranks:
        return ()
    return (global_ranks.index(0),)


def own_connection(store: Store, group_name: str, keepers: tuple[int, ...]) -> Store:
    """A store with the same keys that shares no socket with `store`, where there is such a thing.

    Connecting to a server that has ended is tried again for as long as the group's timeout, often half an hour, and
    cannot be interrupted. So a thread does it, which is waited for not as long.

    Raises:
        RankError: the server does not answer.
    """
    answers: SimpleQueue[Store | Exception] = SimpleQueue()
    Thread(target=_connect, args=(store, group_name, answers), name="sucrose-connect", daemon=True).start()
    try:
        answer = answers.get(timeout=_CONNECT_TIMEOUT_S)
    except Empty:
        answer = TimeoutError(f"no connection within {_CONNECT_TIMEOUT_S:g} s")
    if isinstance(answer, Exception):
        raise store_is_gone(answer, keepers) from answer
    return answer


def store_is_gone(error: Exception, keepers: tuple[int, ...]) -> RankError:
    """The error for a request that was not answered."""
    cause = str(error).strip().partition("\n")[0]
    return RankError(
        "the store of the process group is gone: most likely the process that keeps it, rank 0 of the job or torchrun "
        f"itself, has ended ({cause})",
        ranks=keepers,
    )


def _connect(store: Store, group_name: str, answers: SimpleQueue[Store | Exception]) -> None:
    try:
        store.check(["sucrose"])  # says at once if the server has ended already
        answers.put(_second_store(store, group_name))
    except RuntimeError as error:
        answers.put(error)


def _second_store(store: Store, group_name: str) -> Store:
    clone = getattr(store, "clone", None)
    if clone is None:
        return _own_client(store, group_name)
    try:
        return cast("Store", clone())
    except RuntimeError:  # a class of the program's that has none; if the server is gone, the next request says so
        return store


def _own_client(store: Store, group_name: str) -> Store:
    """For releases of torch whose stores have no `clone`."""
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    base: Any = store
    while isinstance(base, PrefixStore):
        base = base.underlying_store
    if not isinstance(base, TCPStore):
        return store
    client = TCPStore(base.host, base.port, None, False, wait_for_workers=False)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun keeps the server from one to the next
    return PrefixStore(f"{attempt}/{group_name}", client)

"""Who takes part in a collective call."""

from __future__ import annotations

import itertools
import os
import sys
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sucrose.errors import ForkError, RankError
from sucrose.options import current_options
from sucrose.ranks.group_store import exists, keepers_of, own_connection, store_of
from sucrose.ranks.lone_exchange import LoneExchange
from sucrose.ranks.members import Members
from sucrose.ranks.operation_store import OperationStore
from sucrose.ranks.store_exchange import StoreExchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch.distributed as dist
    from torch._C._distributed_c10d import Store

    from sucrose.ranks.exchange import Exchange


class _Group:
    """What this process remembers of a process group for as long as that exists."""

    def __init__(
        self, pid: int, store: Store | None, keepers: tuple[int, ...] = (), original: Store | None = None
    ) -> None:
        self.pid = pid
        self.store = store
        self.original = original
        self.keepers = keepers
        self.numbers = itertools.count(1)


_groups: WeakKeyDictionary[dist.ProcessGroup, _Group] = WeakKeyDictionary()


def _disown() -> None:
    """In a forked child: the groups that exist are its parent's, also those that were not used yet."""
    distributed = sys.modules.get("torch.distributed.distributed_c10d")
    world = getattr(distributed, "_world", None)
    for pg in world.pg_map if world is not None else ():
        _groups.setdefault(pg, _Group(0, None))


os.register_at_fork(after_in_child=_disown)


class Ranks:
    """The ranks of a process group, or this process alone.

    Attributes:
        rank: of this process in the group.
        world_size: ranks in the group.
        global_ranks: the rank in the job of each.
    """

    def __init__(self, members: Members, group: _Group | None) -> None:
        self._members = members
        self._group = group

    @property
    def rank(self) -> int:
        return self._members.rank

    @property
    def world_size(self) -> int:
        return self._members.world_size

    @property
    def global_ranks(self) -> tuple[int, ...]:
        return self._members.global_ranks

    @classmethod
    def of(cls, pg: dist.ProcessGroup | Ranks | None = None) -> Ranks:
        """The ranks of `pg`, of the default group if it is None, or one rank where `torch.distributed` is not set up.

        Makes no group, and runs no collective of the group. Where a group can be given, so can ranks.

        Raises:
            RankError: this process is not in the group, or the group was destroyed.
            ForkError: the group belongs to the process that this one was forked from.
        """
        if isinstance(pg, Ranks):
            return pg
        distributed = sys.modules.get("torch.distributed")
        if distributed is None or not distributed.is_available() or not distributed.is_initialized():
            return cls.alone()
        group: Any = distributed.group.WORLD if pg is None else pg
        if group is None or group == distributed.GroupMember.NON_GROUP_MEMBER:
            raise RankError("this process is not in the process group: only its ranks can make the call")
        if not exists(group):
            raise RankError("the process group was destroyed, or is not of this torch.distributed")
        global_ranks = tuple(distributed.get_process_group_ranks(group))
        members = Members(rank=distributed.get_rank(group), global_ranks=global_ranks)
        return cls(members, _group_of(group, members) if members.world_size > 1 else None)

    @classmethod
    def alone(cls) -> Ranks:
        """This process by itself, whatever group there is."""
        return cls(Members(rank=0, global_ranks=(0,)), None)

    def begin(self, what: str, timeout_s: float | None = None) -> Exchange:
        """Begins a collective operation.

        All ranks begin the same operations of a group in the same order. Operations of one group may overlap.

        Args:
            what: the operation in words, as in ``"taking a snapshot"``. It is compared, so that ranks which make
                different calls hear that.
            timeout_s: a rank may be silent so long; None is the option `rank_timeout_s`.
        """
        group = self._group
        if group is None or group.store is None:
            return LoneExchange()
        if timeout_s is None:
            timeout_s = current_options().rank_timeout_s
        store = OperationStore(group.store, next(group.numbers), group.keepers, group.original)
        return StoreExchange(store, self._members, what, timeout_s)

    def apart(self, name: str) -> Ranks:
        """The same ranks, whose operations have numbers of their own: for threads that keep an order of their own.

        They outlive the group.
        """
        group = self._group
        if group is None or group.store is None:
            return self
        from torch._C._distributed_c10d import PrefixStore

        store = PrefixStore(f"sucrose/{name}", group.store)
        return Ranks(self._members, _Group(group.pid, store, group.keepers, group.original))

    def keys(self, name: str) -> OperationStore:
        """Keys that belong to no operation, below a name that is no number.

        Raises:
            RankError: it is one rank, which has no store.
        """
        group = self._group
        if group is None or group.store is None:
            raise RankError("one rank by itself has no store")
        return OperationStore(group.store, name, group.keepers, group.original)

    def name(self, ranks: Sequence[int]) -> str:
        """Some of them in words, as in ``"ranks 1, 2"``."""
        return self._members.name(ranks)


def _group_of(pg: dist.ProcessGroup, members: Members) -> _Group:
    group = _groups.get(pg)
    if group is None:
        keepers = keepers_of(members.global_ranks)
        original = store_of(pg)
        connection = own_connection(original, pg.group_name, keepers)
        group = _groups[pg] = _Group(os.getpid(), connection, keepers, original)
    if group.pid != os.getpid():
        raise ForkError(
            "the process group belongs to the process that this one was forked from, whose connections it shares: "
            "make the call there, or set up torch.distributed in this process first"
        )
    return group

"""An operation of several ranks, through the store of their group.

1. A step has the same number on all ranks. **Gather**: each rank sets ``<step>/<rank>`` and then counts up
   ``<step>/count``; when all have, rank 0 reads the values and deletes them. **Broadcast**: rank 0 sets ``<step>``.
2. Who waits asks for the counter or the key, now and then for ``failed``, and counts up ``beat/<rank>`` itself.
3. Whoever fails sets ``failed``.
4. **Close** counts up ``closed``; the last rank deletes what is left. Rank 0 may keep the store's server in its
   process, so it waits, for some seconds, until the others have what it has told them.

All keys begin with ``sucrose/<number of the operation>/``, within the prefix of the group.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING

from sucrose.errors import RankError
from sucrose.ranks.exchange import Exchange
from sucrose.ranks.failure import Failure
from sucrose.ranks.heartbeat import Heart, Listening, Place, delete_beats, out_of_step
from sucrose.ranks.waiting import pause_after, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sucrose.ranks.members import Members
    from sucrose.ranks.operation_store import OperationStore

logger = logging.getLogger(__name__)

_HEARTBEAT_S = 1.0
_LINGER_S = 10.0
_LINGER_FAILED_S = 2.0


class StoreExchange(Exchange):
    """An exchange of several ranks.

    Args:
        store: the operation's keys.
        members: the ranks.
        what: the operation in words, as in ``"taking a snapshot"``; compared.
        timeout_s: a rank may be silent so long.
    """

    def __init__(self, store: OperationStore, members: Members, what: str, timeout_s: float) -> None:
        self.rank = members.rank
        self.world_size = members.world_size
        self._store = store
        self._members = members
        self._what = what
        self._timeout_s = timeout_s
        self._place = Place(0, what)
        self._heart = Heart(store, members.rank, min(_HEARTBEAT_S, timeout_s / 10))
        self._failure = Failure(store, members, what)
        self._kept: list[tuple[str, int]] = []  # keys of values that stay until all have closed, with their parts
        self._is_unread = False  # rank 0 has told the others something since it last heard of all
        self._is_closed = False
        self._is_given_up = False

    def give_up_waiting(self) -> None:
        self._is_given_up = True

    def gather(self, step: str, value: bytes) -> list[bytes] | None:
        key = self._begin_step("gathers", step)
        if self.rank != 0:
            self._post(key, value)
            return None
        return [value, *self._collect(key)]

    def gather_distinct(self, step: str, value: bytes) -> list[bytes] | None:
        key = self._begin_step("gathers distinct", step)
        digest = hashlib.sha256(value).digest()
        shared = f"{key}/{digest.hex()}"
        if self.rank != 0:
            if self._store.count(f"{shared}/claimed", 1) == 1:
                self._store.put_value(shared, self._place.name, value)
            self._post(key, digest)
            return None
        digests = self._collect(key)
        values = {digest: value}
        for other in dict.fromkeys(digests):
            shared = f"{key}/{other.hex()}"
            self._store.delete(f"{shared}/claimed")
            taken = self._take([shared])[0]
            values.setdefault(other, taken)
        return [value, *(values[other] for other in digests)]

    def broadcast(self, step: str, value: bytes | None) -> bytes:
        key = self._begin_step("broadcasts", step)
        if self.rank == 0:
            if value is None:
                raise ValueError(f"rank 0 has nothing to broadcast at {step!r}")
            self._is_unread = True
            self._kept.append((key, self._store.put_value(key, self._place.name, value)))
            return value
        self._wait_until(lambda: self._store.has(key), lambda: (0,))
        [head] = self._store.heads([key])
        self._compare(0, head.place)
        self._kept.append((key, head.n_parts))
        return self._store.value(key, head)

    def alive(self) -> None:
        if self._heart.beat(self._place):
            self._failure.check()

    def check(self) -> None:
        self._failure.check()

    def fail(self, error: BaseException) -> None:
        if self._is_closed or not self._store.is_ours:
            return
        try:
            self._failure.post(error)
        except RankError as gone:
            logger.debug("the other ranks were not told of %r: %s", error, gone)

    def close(self) -> None:
        if self._is_closed or not self._store.is_ours:
            return
        self._is_closed = True
        try:
            self._linger()
            if self._store.count("closed", 1) == self.world_size:
                self._delete_all()
        except RankError as gone:  # all there is to say was said: by the outcome, or by an error
            logger.debug("%s: not closed in order: %s", self._what, gone)

    def _begin_step(self, verb: str, step: str) -> str:
        """The key of the next step."""
        if self._is_closed:
            raise RankError(f"{self._what} is over on this rank: it has no further steps")
        index = self._place.index + 1
        self._place = Place(index, f"{self._what} ({verb} {step!r})")
        return str(index)

    def _post(self, key: str, value: bytes) -> None:
        self._failure.check()
        self._store.put_value(f"{key}/{self.rank}", self._place.name, value)
        self._store.count(f"{key}/count", 1)

    def _collect(self, key: str) -> list[bytes]:
        """What the others have posted, in their order."""
        others = range(1, self.world_size)
        missing = list(others)

        def still_missing() -> Sequence[int]:
            missing[:] = [rank for rank in missing if not self._store.has(f"{key}/{rank}")]
            return missing

        self._wait_until(lambda: self._store.count(f"{key}/count") == len(others), still_missing)
        self._store.delete(f"{key}/count")
        self._is_unread = False
        return self._take([f"{key}/{rank}" for rank in others])

    def _take(self, keys: Sequence[str]) -> list[bytes]:
        """Values of the others, which are deleted."""
        values = []
        for rank, (key, head) in enumerate(zip(keys, self._store.heads(keys), strict=True), 1):
            self._compare(rank, head.place)
            values.append(self._store.value(key, head))
            self._store.delete_value(key, head.n_parts)
        return values

    def _compare(self, rank: int, place: str) -> None:
        if place != self._place.name:
            raise out_of_step(self._members, self._place.name, rank, place)

    def _wait_until(self, is_there: Callable[[], bool], missing: Callable[[], Sequence[int]]) -> None:
        def look() -> bool:
            if is_there():
                return True
            if self._is_given_up:
                ranks = tuple(missing())
                raise RankError(f"{self._place.name}: no longer waited for {self._members.name(ranks)}", ranks=ranks)
            return False

        wait_until(
            look,
            missing,
            place=self._place,
            failure=self._failure,
            heart=self._heart,
            listening=Listening(self._store, self._members, self._place, self._timeout_s),
        )

    def _linger(self) -> None:
        """On rank 0: waits until the others have read what it has told them, in case the store ends with it."""
        failed = self._failure.found
        if self.rank != 0 or not (self._is_unread or failed is not None):
            return
        expected = self.world_size - 1 - len(set(failed or ()) - {0})
        began = time.monotonic()
        longest_s = _LINGER_S if failed is None else _LINGER_FAILED_S
        limit_s = min(longest_s, self._timeout_s / 4)  # in the next operation this rank is silent meanwhile
        while self._store.count("closed") < expected and (waited_s := time.monotonic() - began) < limit_s:
            time.sleep(pause_after(waited_s))

    def _delete_all(self) -> None:
        for key, n_parts in self._kept:
            self._store.delete_value(key, n_parts)
        delete_beats(self._store, self._members)
        self._failure.delete()
        self._store.delete("closed")

"""Signs of life: each rank counts up a key of its own, and others see whether that changes.

No clock is compared with another machine's: what counts is how long ago, by the own clock, a key was seen to change.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from sucrose.errors import RankError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sucrose.ranks.members import Members
    from sucrose.ranks.operation_store import OperationStore

_ANY_KEY = "beats"


class Place(msgspec.Struct, array_like=True, frozen=True):
    """Where in an operation a rank is.

    Attributes:
        index: steps begun so far.
        name: the operation and the step in words.
    """

    index: int
    name: str


class _Beat(msgspec.Struct, array_like=True, frozen=True):
    number: int
    place: Place


class Heart:
    """The own heartbeat.

    Args:
        store: of the operation.
        rank: whose heart it is.
        interval_s: it beats this often at most.
    """

    def __init__(self, store: OperationStore, rank: int, interval_s: float) -> None:
        self._store = store
        self._key = _key_of(rank)
        self._interval_s = interval_s
        self._number = 0
        self._last = time.monotonic()

    def beat(self, place: Place) -> bool:
        """Beats, unless it has a moment ago; returns whether it did."""
        if time.monotonic() - self._last < self._interval_s:
            return False
        if self._number == 0:
            self._store.count(_ANY_KEY, 1)
        self._number += 1
        self._store.put(self._key, msgspec.msgpack.encode(_Beat(self._number, place)))
        self._last = time.monotonic()
        return True


class Listening:
    """The heartbeats of ranks that are waited for, since that began.

    Args:
        store: of the operation.
        members: its ranks.
        place: where the waiting rank is.
        timeout_s: so long a rank may be silent.
    """

    def __init__(self, store: OperationStore, members: Members, place: Place, timeout_s: float) -> None:
        self._store = store
        self._members = members
        self._place = place
        self._timeout_s = timeout_s
        self._began = time.monotonic()
        self._beats: dict[int, tuple[int, float]] = {}

    def listen(self, ranks: Iterable[int]) -> RankError | None:
        """Listens to `ranks`.

        Returns:
            An error, if the heart of one beats where one comes to only by another way than this rank's. It is wrong
            if meanwhile that rank has posted what is waited for.

        Raises:
            RankError: ranks have been silent for too long.
        """
        silent: list[int] = []
        astray: RankError | None = None
        for rank in ranks:
            beat = self._beat_of(rank)
            number, changed = self._beats.get(rank, (0, self._began))
            if beat is not None and beat.number != number:
                number, changed = beat.number, time.monotonic()
            self._beats[rank] = number, changed
            if beat is not None and self._is_astray(beat.place):
                astray = out_of_step(self._members, self._place.name, rank, beat.place.name)
            if time.monotonic() - changed >= self._timeout_s:
                silent.append(rank)
        if silent:
            raise RankError(
                f"{self._place.name}: nothing was heard of {self._members.name(silent)} for {self._timeout_s:g} s. "
                "The process has ended or hangs, or does not take part in the call, which all ranks have to make in "
                "the same order (SUCROSE_RANK_TIMEOUT_S sets how long to wait)",
                ranks=tuple(silent),
            )
        return astray

    def _beat_of(self, rank: int) -> _Beat | None:
        key = _key_of(rank)
        return msgspec.msgpack.decode(self._store.get(key), type=_Beat) if self._store.has(key) else None

    def _is_astray(self, place: Place) -> bool:
        if place.index == self._place.index:
            return place.name != self._place.name
        return place.index > self._place.index


def out_of_step(members: Members, own: str, rank: int, other: str) -> RankError:
    """The error of two ranks that make different calls."""
    return RankError(
        f"the ranks are out of step: {members.name([members.rank])} is {own}, while {members.name([rank])} is {other}. "
        "All ranks have to make the same calls in the same order",
        ranks=(rank,),
    )


def delete_beats(store: OperationStore, members: Members) -> None:
    """Removes all heartbeats of an operation; most are over before a heart has beaten."""
    if store.count(_ANY_KEY):
        for rank in range(members.world_size):
            store.delete(_key_of(rank))
    store.delete(_ANY_KEY)


def _key_of(rank: int) -> str:
    return f"beat/{rank}"

"""One save of all ranks, until it is settled whether it takes place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from sucrose.ranks.waiting import pause_after
from sucrose.state.collective.departures import departed

if TYPE_CHECKING:
    from collections.abc import Callable

    from sucrose.ranks import Ranks
    from sucrose.state.collective.occasion import Occasion

_VERDICT = "verdict"
_ARRIVED = "arrived"
_LOOK_FOR_DEPARTURES_S = 0.1


class Verdict(msgspec.Struct, array_like=True, frozen=True):
    """What was said of a round first, and therefore counts.

    Attributes:
        is_on: all ranks have arrived.
        why: otherwise, why not.
        ranks: otherwise, because of whom.
        is_skipped: there was nothing wrong: a rank has nothing to save.
    """

    is_on: bool
    why: str = ""
    ranks: tuple[int, ...] = ()
    is_skipped: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Verdict)


class Round:
    """One save of all ranks, or none. For one thread at a time, but for `call_off`.

    Args:
        ranks: of the job.
        occasion: why states are saved.
        number: which save of that kind.
    """

    def __init__(self, ranks: Ranks, occasion: Occasion, number: int) -> None:
        self.ranks = ranks
        self.occasion = occasion
        self.number = number
        self._name = f"{occasion.value}-{number}"
        self._keys = ranks.keys(self._name)

    def arrive(self) -> None:
        """This rank has its states in hand. Once."""
        self._keys.put(str(self.ranks.rank), b"")
        if self._keys.count(_ARRIVED, 1) == self.ranks.world_size:
            self._say(Verdict(is_on=True))

    def call_off(self, why: str, ranks: tuple[int, ...], *, is_skipped: bool = False) -> Verdict:
        """Says that it does not take place, and returns what counts: perhaps it does already."""
        return self._say(Verdict(is_on=False, why=why, ranks=ranks, is_skipped=is_skipped))

    def verdict(self) -> Verdict | None:
        """What counts; None while that is open."""
        return _decoder.decode(self._keys.get(_VERDICT)) if self._keys.has(_VERDICT) else None

    def wait(self, limit_s: Callable[[], float]) -> Verdict:
        """Waits until it is settled. Where that takes too long, or a missing rank has ended, it is called off.

        Args:
            limit_s: how long is too long; asked again and again.

        Raises:
            RankError: the store is gone.
        """
        began = time.monotonic()
        look_next = began
        while (verdict := self.verdict()) is None:
            now = time.monotonic()
            if now - began >= (limit := limit_s()):
                missing = self._missing()
                if not missing:  # the last one has not said so yet
                    return self._say(Verdict(is_on=True))
                return self.call_off(f"{self.ranks.name(missing)} did not come within {limit:g} s", missing)
            if now >= look_next:
                gone = set(departed(self.ranks))
                if gone and (ended := tuple(rank for rank in self._missing() if rank in gone)):
                    return self.call_off(f"{self.ranks.name(ended)} had ended before", ended)
                look_next = now + _LOOK_FOR_DEPARTURES_S
            time.sleep(pause_after(now - began))
        return verdict

    def begin_writing(self) -> Ranks:
        """The ranks for what they do together in this round, once it is on."""
        return self.ranks.apart(self._name)

    def delete(self) -> None:
        """Removes what there is of it in the store. No rank comes to it any more."""
        for key in (_VERDICT, _ARRIVED, *map(str, range(self.ranks.world_size))):
            self._keys.delete(key)

    def _missing(self) -> tuple[int, ...]:
        return tuple(rank for rank in range(self.ranks.world_size) if not self._keys.has(str(rank)))

    def _say(self, verdict: Verdict) -> Verdict:
        return _decoder.decode(self._keys.put_first(_VERDICT, _encoder.encode(verdict)))

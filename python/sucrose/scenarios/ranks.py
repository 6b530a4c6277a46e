"""Which process of a job this is, and what its ranks do together for a scenario.

Where `torch.distributed` has been set up, the ranks of its default group go through a scenario together: what is read
from the folder is decided by rank 0, and known to all. A job whose group is not set up is one of processes that know
their ranks and nothing of each other: the first one writes.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import msgspec

from sucrose.errors import RankError
from sucrose.ranks import Exchange, Ranks

_BEAT_S = 0.5
_numbers = itertools.count(1)
_MOST_NAMED = 5

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(dict[str, str])


def rank() -> int:
    """The rank in the job: of `torch.distributed` where that has been set up, else as `torchrun` tells it."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    told = os.environ.get("RANK", "0")
    return int(told) if told.isdecimal() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """One call of all ranks.

    Attributes:
        exchange: the call.
        ranks: who takes part.
    """

    exchange: Exchange
    ranks: Ranks

    @classmethod
    def alone(cls) -> Together:
        """A call of this process by itself, whatever group there is."""
        ranks = Ranks.alone()
        return cls(exchange=ranks.begin("alone"), ranks=ranks)


class RunRanks:
    """The ranks of one scenario: those of the first group of several that is found, also when it was destroyed since.

    For one thread, and for signal handlers in it.
    """

    def __init__(self) -> None:
        self._found: Ranks | None = None
        self._at_end: Ranks | None = None
        self._number = 0

    @property
    def ranks(self) -> Ranks:
        """They; this process alone where there is no group.

        Raises:
            RankError: the store of the group does not answer.
        """
        if self._found is None:
            ranks = Ranks.of()
            if ranks.world_size == 1:
                return ranks
            self._number = next(_numbers)  # not sooner: scenarios of one rank alone do not count
            self._found = ranks
        return self._found

    @property
    def are_several(self) -> bool:
        """Whether this process has others to agree with."""
        return self.ranks.world_size > 1

    def apart(self, name: str) -> Ranks:
        """The same ranks, for calls that have an order of their own."""
        ranks = self.ranks
        return ranks.apart(f"scenario-{self._number}-{name}")

    @contextmanager
    def together(self, what: str) -> Iterator[Together]:
        """What all ranks do in one call; an error of one of them ends it for all."""
        with self.ranks.begin(what) as exchange:
            yield Together(exchange=exchange, ranks=self.ranks)

    @contextmanager
    def before_the_end(self, what: str, timeout_s: float) -> Iterator[Together]:
        """The same wherever this rank is, and the others perhaps are not: in a signal handler, or at the exit."""
        if self._at_end is None:
            self._at_end = self.apart("end")
        with self._at_end.begin(what, timeout_s) as exchange:
            yield Together(exchange=exchange, ranks=self._at_end)


def agree_on(exchange: Exchange, said: Mapping[str, object]) -> None:
    """Returns where all ranks say the same.

    Args:
        exchange: of the call.
        said: what this rank says, by what it is about; values are compared as text.

    Raises:
        RankError: a rank says something else than rank 0, or has failed.
    """
    if exchange.world_size == 1:
        return
    own = {name: str(value).encode(errors="backslashreplace").decode() for name, value in said.items()}
    given = exchange.gather_distinct("arguments", _encoder.encode(own))
    for number, encoded in enumerate(given or ()):
        other = _decoder.decode(encoded)
        names = [name for name in {**own, **other} if own.get(name) != other.get(name)]
        if names:
            told = "; ".join(
                f"{name} is {_told(other, name)} on rank {number} and {_told(own, name)} on rank 0"
                for name in names[:_MOST_NAMED]
            )
            more = f", and {len(names) - _MOST_NAMED} more differ" if len(names) > _MOST_NAMED else ""
            raise RankError(f"all ranks have to go the same way: {told}{more}", ranks=(number,))
    exchange.broadcast("all agree", b"")


def number_of_rank_0(exchange: Exchange, step: str, number: int) -> int:
    """Rank 0's `number`, on all ranks."""
    return int(exchange.broadcast(step, b"%d" % number))


def any_rank(exchange: Exchange, step: str, *, flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    flags = exchange.gather(step, b"1" if flag else b"")
    return bool(exchange.broadcast(f"{step}?", None if flags is None else b"1" * any(flags)))


@contextmanager
def shown_alive(exchange: Exchange) -> Iterator[None]:
    """Inside of it this rank works alone, for however long, and the others see that it lives."""
    if exchange.world_size == 1:
        yield
        return
    is_over = threading.Event()

    def beat() -> None:
        with suppress(RankError):  # whoever uses the exchange next is told
            while not is_over.wait(_BEAT_S):
                exchange.alive()

    thread = threading.Thread(target=beat, name="sucrose-alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _told(said: Mapping[str, str], name: str) -> str:
    return said.get(name, "nothing")

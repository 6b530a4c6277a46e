"""Where in its passes over its loaders a program was when its state was saved.

A *pass* is one ``iter(loader)`` until that iterator is exhausted or dropped. The place is an *event* that
comes again when the program is run again:

- ``iter``: pass `number` of `loader` is about to begin;
- ``next``: `loader`'s pass `number` is about to be asked for another batch;
- ``outside``: the last pass is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sucrose.data_order.random_states import RandomStates


@dataclass(frozen=True, slots=True)
class Event:
    """See above. `loader` and `number` mean nothing for ``outside``."""

    kind: str
    loader: str = ""
    number: int = 0


OUTSIDE = Event("outside")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedPass:
    """What it takes to begin a pass again and to go on where it was."""

    loader: str
    number: int
    used: int
    """Batches that need not come again."""
    start: RandomStates
    """Before ``__iter__``."""
    first: RandomStates | None
    """Before the first ``__next__``; None where it was not called."""
    begun: Mapping[str, int]
    """How many passes of each loader had begun when the last of those batches came."""
    own: Any = None
    """What a loader with a `state_dict` of its own says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The place and the random numbers that come next there."""

    event: Event
    begun: Mapping[str, int]
    """How many passes of each loader have begun."""
    unfinished: tuple[UnfinishedPass, ...] = ()
    """In the order in which they began."""
    trained: frozenset[str] = frozenset()
    """Loaders during whose passes optimizers have stepped."""
    random: RandomStates
    steps: int = 0
    """Steps that optimizers have made, of all runs together."""
    swallow: Mapping[str, int] = field(default_factory=dict)
    """Calls of optimizers and schedulers after the event: their effect is in the state already."""

    def to_state(self) -> dict[str, Any]:
        """Tensors, containers and plain values only."""
        return {
            "event": [self.event.kind, self.event.loader, self.event.number],
            "begun": dict(self.begun),
            "unfinished": [
                {
                    "loader": one.loader,
                    "number": one.number,
                    "used": one.used,
                    "start": one.start.to_state(),
                    "first": None if one.first is None else one.first.to_state(),
                    "begun": dict(one.begun),
                    "own": one.own,
                }
                for one in self.unfinished
            ],
            "trained": sorted(self.trained),
            "random": self.random.to_state(),
            "steps": self.steps,
            "swallow": dict(self.swallow),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Position:
        """The inverse of `to_state`."""
        return cls(
            event=Event(*state["event"]),
            begun=state["begun"],
            unfinished=tuple(_unfinished(one) for one in state["unfinished"]),
            trained=frozenset(state["trained"]),
            random=RandomStates.from_state(state["random"]),
            steps=state["steps"],
            swallow=state["swallow"],
        )

    def unfinished_pass(self, loader: str, number: int) -> UnfinishedPass | None:
        """What was saved of that pass; None where it was over or had not begun."""
        return next((one for one in self.unfinished if (one.loader, one.number) == (loader, number)), None)


def _unfinished(state: Mapping[str, Any]) -> UnfinishedPass:
    first = state["first"]
    return UnfinishedPass(
        loader=state["loader"],
        number=state["number"],
        used=state["used"],
        start=RandomStates.from_state(state["start"]),
        first=None if first is None else RandomStates.from_state(first),
        begun=state["begun"],
        own=state["own"],
    )

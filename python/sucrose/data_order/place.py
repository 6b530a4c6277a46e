"""Where a program is in its passes over one loader, and how that is written down.

A *pass* is one ``iter(loader)`` until that iterator is exhausted or dropped. A *boundary* is where the
iterator is asked for another batch, and where it is exhausted: all batches that it has delivered are used there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sucrose.data_order.random_states import RandomStates
from sucrose.errors import FormatVersionError

VERSION = 1
"""Of what `LoaderPlace.to_state` gives."""

_MARK = "sucrose_loader"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPlace:
    """What it takes to begin a pass again and to go on where it was."""

    used: int
    """Batches that need not come again."""
    start: RandomStates
    """Before ``__iter__``."""
    first: RandomStates | None
    """Before the first ``__next__``; None where it was not called."""
    private: Mapping[str, Any]
    """What samplers and data set kept to themselves before ``__iter__``."""
    had_workers: bool
    """They were those of an earlier pass."""
    own: Any = None
    """What a loader with a `state_dict` of its own has said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderPlace:
    """All that is known of a loader at a boundary."""

    begun: int
    """Passes."""
    completed: int
    """Passes of this epoch that are over."""
    current: PassPlace | None
    """The pass that is not over."""
    random: RandomStates
    """What comes next."""
    private: Mapping[str, Any]
    """What samplers and data set keep to themselves now."""
    has_workers: bool
    """Workers that persist have been started."""
    own: Any = None
    """What a loader says that is none of torch's, and keeps its place itself."""

    def to_state(self) -> dict[str, Any]:
        """Tensors, containers and plain values only."""
        current = self.current
        return {
            _MARK: VERSION,
            "begun": self.begun,
            "completed": self.completed,
            "current": None
            if current is None
            else {
                "used": current.used,
                "start": current.start.to_state(),
                "first": None if current.first is None else current.first.to_state(),
                "private": dict(current.private),
                "had_workers": current.had_workers,
                "own": current.own,
            },
            "random": self.random.to_state(),
            "private": dict(self.private),
            "has_workers": self.has_workers,
            "own": self.own,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LoaderPlace:
        """The inverse of `to_state`.

        Raises:
            FormatVersionError: a newer release has written it.
        """
        if state[_MARK] > VERSION:
            raise FormatVersionError(
                f"the place in a loader is of version {state[_MARK]}, this release knows {VERSION}: update "
                "torch-sucrose"
            )
        state = _on_host(state)
        current = state["current"]
        return cls(
            begun=state["begun"],
            completed=state["completed"],
            current=None if current is None else _pass_place(current),
            random=RandomStates.from_state(state["random"]),
            private=state["private"],
            has_workers=state["has_workers"],
            own=state["own"],
        )


def is_place(state: object) -> bool:
    """Whether `LoaderPlace.to_state` has made it, and not a loader's own `state_dict`."""
    return isinstance(state, Mapping) and _MARK in state


def _on_host(state: Any) -> Any:
    """A `map_location` has moved the states of generators as well, which stand on the host."""
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, Mapping):
        return {key: _on_host(value) for key, value in state.items()}
    return type(state)(map(_on_host, state)) if type(state) in (list, tuple) else state


def _pass_place(state: Mapping[str, Any]) -> PassPlace:
    first = state["first"]
    return PassPlace(
        used=state["used"],
        start=RandomStates.from_state(state["start"]),
        first=None if first is None else RandomStates.from_state(first),
        private=state["private"],
        had_workers=state["had_workers"],
        own=state["own"],
    )

"""Begins an interrupted pass over a loader again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from sucrose.data_order.random_states import RandomStates
from sucrose.data_order.skipping import Make, make_iterator, skip


class Interrupted(Protocol):
    """What has to be known of a pass."""

    @property
    def used(self) -> int:
        """Batches that do not come again."""

    @property
    def start(self) -> RandomStates:
        """Before ``__iter__``."""

    @property
    def first(self) -> RandomStates | None:
        """Before the first ``__next__``; None where it was not called."""

    @property
    def own(self) -> Any:
        """What a loader with a `state_dict` of its own has said; None for others."""


def restart(saved: Interrupted, loader: Any, make: Make, generators: Mapping[str, torch.Generator]) -> Any:
    """The loader's own iterator, where it was.

    All generators are left as they come out of that: the caller sets them.

    Args:
        saved: the pass.
        loader: what it goes over.
        make: the loader's own ``__iter__``.
        generators: those of the loader, by the names under which `saved` has their states.

    Raises:
        StateMismatchError: there are fewer batches now than were used.
    """
    saved.start.apply(generators)
    if saved.own is not None and hasattr(loader, "load_state_dict"):
        loader.load_state_dict(copy.deepcopy(saved.own))
        return make(loader)
    iterator, count = make_iterator(make, loader, saved.used)
    if saved.first is not None:
        saved.first.apply(generators)
    skip(loader, iterator, count)
    return iterator

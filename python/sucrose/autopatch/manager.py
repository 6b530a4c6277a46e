"""The state manager that stands for everything autopatch knows of."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from sucrose.autopatch.position import Position, UnfinishedPass
from sucrose.autopatch.resumption import VERSION
from sucrose.autopatch.tracker import Tracker
from sucrose.state.managers import UNSET, BaseStateManager

logger = logging.getLogger(__name__)

KEY = "autopatch"
"""Of the state in the group."""


class TrainingState(BaseStateManager):
    """Modules, optimizers, schedulers, scalers, generators and positions of a program, as one state.

    The tracker has to be given to it before it is asked for anything.
    """

    is_internal = True
    tracker: Tracker
    load_earlier: Callable[[], Any] | None = None
    """Makes the state of an earlier run."""

    def adopt(self, load: Callable[[], Any]) -> None:
        """Takes over the state of an earlier run; a program that has begun goes on with its own."""
        if self.tracker.is_pending:
            self.load_earlier = load

    def untouched(self) -> Callable[[], Any] | None:
        """As long as nothing was restored, the state of the earlier run is the program's."""
        return self.load_earlier if self.tracker.is_pending else None

    def state_to_save(self) -> Any:
        tracker = self.tracker
        if tracker.resumption is not None and tracker.resumption.is_replaying:
            logger.warning("nothing is saved: the program is still on its way to where it was interrupted")
            return UNSET
        if tracker.is_torn:
            logger.warning("nothing is saved: an optimizer was interrupted in the middle of a step")
            return UNSET
        timeline = tracker.timeline
        pending = tracker.gradients.pending(
            tracker.objects.optimizers.living(), at_boundary=not timeline.has_stepped_since
        )
        return {
            "version": VERSION,
            "objects": tracker.objects.states(needs_gradients=lambda key: tracker.gradients.matter(key, pending)),
            "pending_gradients": pending,
            "position": self._position().to_state(),
        }

    def delete(self) -> None:
        """Forgets the state of the earlier run."""
        self.load_earlier = None

    def get(self) -> None:
        """Nothing: the program's own objects have the state."""

    def _position(self) -> Position:
        position = self.tracker.timeline.position(was_interrupted=_an_exception_ends_the_program())
        if self.tracker.resumption is not None:
            still_to_swallow = self.tracker.resumption.swallow
            position = replace(position, swallow=Counter(position.swallow) + still_to_swallow)
        return replace(position, unfinished=tuple(map(self._with_own_state, position.unfinished)))

    def _with_own_state(self, one: UnfinishedPass) -> UnfinishedPass:
        """Adds what a loader says that keeps its position itself, unless that is another one by now."""
        loader = self.tracker.objects.loaders.get(one.loader)
        state_of = getattr(loader, "state_dict", None)
        is_at = self.tracker.timeline.delivered(one.loader, one.number) == one.used
        if state_of is None or not one.used or not is_at:
            return one
        return replace(one, own=state_of())

    def update(self, value: Any) -> NoReturn:
        raise TypeError(f"the state {self.uid!r} is autopatch's, it cannot be set to a {type(value).__name__}")


def _an_exception_ends_the_program() -> bool:
    # Python notes what nobody has caught before it calls exit handlers.
    return getattr(sys, "last_exc", None) is not None or getattr(sys, "last_value", None) is not None

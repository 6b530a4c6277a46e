"""Follows a program: what it makes, its passes over loaders, its steps. The calls of `patches` arrive here.

Objects get their names as they are made. With the first optimizer or loader the state of an earlier run is
looked for; `resumption` tells what becomes of that. All of it happens in one thread of one process; others are
let through.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from sucrose.autopatch.counting import count_as_usual
from sucrose.autopatch.gradients import Gradients
from sucrose.autopatch.interrupts import Interrupts
from sucrose.autopatch.objects import Objects
from sucrose.autopatch.position import OUTSIDE, Event
from sucrose.autopatch.resumption import Resumption
from sucrose.autopatch.timeline import Pass, Timeline

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.utils.data import DataLoader

    from sucrose.autopatch.replay import ReplayedPass

logger = logging.getLogger(__name__)

Load = Callable[[], Any]


class Tracker:
    """Follows one program.

    Args:
        is_program: whether this process is it, and not a helper; asked once.
        find: looks for the state of an earlier run; returns what makes it, or None.
        at_boundary: saves where that is due, and ends the program where it was asked to.
    """

    def __init__(
        self, is_program: Callable[[], bool], find: Callable[[], Load | None], at_boundary: Callable[[], None]
    ) -> None:
        self.objects = Objects()
        self.gradients = Gradients()
        self.timeline = Timeline(self.objects.capture_random, self._changes)
        self.resumption: Resumption | None = None
        """None where there was no earlier run."""
        self.is_torn = False
        """An optimizer was interrupted in the middle of a step, and nothing has followed."""
        self._interrupts = Interrupts()
        self._is_program = is_program
        self._find = find
        self._at_boundary = at_boundary
        self._has_begun = False
        self._has_looked = False
        self._is_off = False
        self._thread = threading.get_ident()
        self._depth = 0
        """Of calls of schedulers and optimizers that call each other."""
        self._iterates_by: str | None = None
        """What begins a step: a pass over a loader; in programs without, the kind of call that came first."""

    @property
    def is_pending(self) -> bool:
        """Whether the state of an earlier run, if there is one, was not touched yet."""
        resumption = self.resumption
        if resumption is None:
            return not self._has_looked
        return not resumption.is_replaying and not resumption.is_over

    def turn_off(self) -> None:
        """Nothing is tracked from here on: in forked children, and in helpers of the program."""
        self._is_off = True
        count_as_usual()

    def note_made(self, kind: str, made: Any) -> None:
        """Names an object of one of the kinds of `Objects`."""
        if self._is_off:
            return
        if self._is_tracking:
            self.objects.hold_less()
        self.objects.of_kind(kind).add(made)
        if not self._has_begun and kind in ("optimizers", "loaders"):
            self._begin()

    def begin_pass(self, loader: DataLoader[Any], make: Callable[[DataLoader[Any]], Any]) -> Any:
        """Instead of the loader's ``__iter__``, which is `make`."""
        if not self._is_tracking:
            return make(loader)
        key = self.objects.loaders.add(loader)
        if not self._has_begun:
            self._begin()
        self._iterates_by = "loader"
        self.objects.hold()  # not with every batch: it takes time, and there is little new
        resumption = self._present_resumption()
        if resumption is None:
            self._enter_boundary(Event("iter", key, self.timeline.begun.get(key, 0)))
        else:
            replayed = self._replay_pass(resumption, key, loader, make)
            if replayed is not None:
                return replayed
        start = self.objects.capture_random()
        iterator = make(loader)
        self.timeline.begin_pass(key, iterator, start)
        return iterator

    def next_batch(self, iterator: Any, fetch: Callable[[Any], Any]) -> Any:
        """Instead of the ``__next__`` of a loader's iterator, which is `fetch`."""
        one = self.timeline.find(iterator)
        if one is None or not self._is_tracking:
            return fetch(iterator)
        self._enter_boundary(Event("next", one.loader, one.number), asked=one)
        return self._fetch(one, iterator, fetch)

    def step_optimizer(self, optimizer: Optimizer, step: Callable[[], Any], closure: Callable[[], Any] | None) -> Any:
        """Instead of the optimizer's `step`."""
        if self._depth or not self._is_tracking:
            return step()
        self.note_use(is_training=True)
        key = self.objects.optimizers.add(optimizer)
        resumption = self.resumption
        if resumption is not None and (resumption.is_replaying or self._swallows(resumption, key)):
            with torch.enable_grad():
                return None if closure is None else closure()
        with self._interrupts:
            self.is_torn = True
            result = self._call(step)
            self.timeline.note_step(key)
            self.gradients.note_step(key)
            self.is_torn = False
        return result

    def step_scheduler(self, scheduler: Any, step: Callable[[], Any]) -> Any:
        """Instead of the scheduler's `step`, also that in its constructor."""
        if self._depth or not self._is_tracking:
            return step()
        self.note_use(is_training=False)
        key = self.objects.schedulers.add(scheduler)
        if self.resumption is not None and self._swallows(self.resumption, key):
            return None
        result = self._call(step)
        self.timeline.note_schedule(key)
        return result

    def note_zero_grad(self, optimizer: Optimizer | None) -> None:
        """Gradients are about to be thrown away: an optimizer's, or those of a module."""
        if not self._is_tracking:
            return
        key = None if optimizer is None else self.objects.optimizers.add(optimizer)
        if key is not None:
            self._note_iteration(f"zero_grad of {key}")
        self.gradients.note_zero_grad(key)

    def note_backward(self) -> None:
        """Gradients are about to be added to."""
        if self._is_tracking:
            self.gradients.note_backward()

    def note_forward(self) -> bool:
        """A module is about to be called; False where it is not necessary to tell."""
        if self._is_off or self._iterates_by not in (None, "forward"):
            return False
        if self._is_tracking:
            if torch.is_grad_enabled() and self.objects.optimizers.living():
                self._note_iteration("forward")
            else:
                self.note_use(is_training=False)
        return True

    def note_use(self, *, is_training: bool) -> None:
        """The program uses what it has made; see `Resumption`."""
        if self._is_tracking and (resumption := self._present_resumption()) is not None:
            resumption.note_use(is_training=is_training)

    def note_leaving(self) -> None:
        """`sys.exit` was called."""
        if self._is_tracking:
            self.timeline.note_leaving()
            self.objects.hold()

    def skips_save(self, file: Any) -> bool:
        """Whether `torch.save` has nothing to write; see `Resumption`."""
        return self._is_tracking and self.resumption is not None and self.resumption.skips_save(file)

    @property
    def _is_tracking(self) -> bool:
        return not self._is_off and threading.get_ident() == self._thread

    def _begin(self) -> None:
        self._has_begun = True
        self._thread = threading.get_ident()
        if not self._is_program():
            self.turn_off()
            return
        self._interrupts.watch()
        load = self._find()
        if load is not None:
            self.resumption = Resumption(load, self.objects, self.timeline, self.gradients, self._deliver)
        self._has_looked = True

    def _present_resumption(self) -> Resumption | None:
        resumption = self.resumption
        return None if resumption is None or resumption.is_over else resumption

    def _replay_pass(
        self, resumption: Resumption, key: str, loader: DataLoader[Any], make: Callable[[DataLoader[Any]], Any]
    ) -> ReplayedPass | None:
        """None where the pass is a real one."""
        if resumption.replay is None:
            resumption.begin_replay()
        else:
            resumption.replay.finish_if_due()
        if resumption.replay is None or resumption.is_over:
            self._enter_boundary(Event("iter", key, self.timeline.begun.get(key, 0)))
            return None
        self._at_boundary()  # nothing is saved there, but the program may have to end
        resumption.prepare_pass()
        return resumption.replay.begin_pass(key, loader, make)

    def _deliver(self, replayed: ReplayedPass, is_boundary: bool) -> Any:
        """A batch of a pass that goes on after the replay.

        Args:
            replayed: what the program iterates over.
            is_boundary: False for the batch with which the program goes on.
        """
        if is_boundary:
            return self.next_batch(replayed, _fetch_from_source)
        one = self.timeline.find(replayed)
        return _fetch_from_source(replayed) if one is None else self._fetch(one, replayed, _fetch_from_source)

    def _fetch(self, one: Pass, iterator: Any, fetch: Callable[[Any], Any]) -> Any:
        if one.first is None:
            one.first = self.objects.capture_random()
        try:
            batch = fetch(iterator)
        except StopIteration:
            self.timeline.end_pass(one, iterator)
            raise
        self.timeline.note_delivery(one)
        return batch

    def _note_iteration(self, kind: str) -> None:
        """A program without loaders has its boundaries where a step begins: at the kind of call that came first."""
        if self._depth:
            return
        if self._iterates_by is None:
            self._iterates_by = kind
        self.note_use(is_training=True)
        if self._iterates_by != kind or self._present_resumption() is not None:
            return
        if self.timeline.has_called_since:
            self.objects.hold()
            self._enter_boundary(OUTSIDE)

    def _enter_boundary(self, event: Event, asked: Pass | None = None) -> None:
        timeline = self.timeline
        if not timeline.enter_boundary(event, asked):
            return
        if self.resumption is not None:
            self.resumption.swallow.clear()
        self.is_torn = False
        self.gradients.note_boundary()
        timeline.is_at_boundary = True
        try:
            self._at_boundary()
        finally:
            timeline.is_at_boundary = False

    def _call(self, step: Callable[[], Any]) -> Any:
        self._depth += 1
        try:
            return step()
        finally:
            self._depth -= 1

    def _swallows(self, resumption: Resumption, key: str) -> bool:
        if resumption.swallow[key] <= 0:
            return False
        resumption.swallow[key] -= 1
        self.timeline.note_swallowed(key)
        return True

    def _changes(self) -> object:
        return self.gradients.backwards, self.objects.fingerprint()


def _fetch_from_source(replayed: ReplayedPass) -> Any:
    return next(replayed.source)

"""Where the running program is in its passes over its loaders.

1. A *boundary* is the entry of a loader's ``__iter__``, or of its iterator's ``__next__``, at which no pass
   has a batch that was delivered and not used. A batch is used when its own iterator is asked for the
   next one, or when an optimizer has stepped after its delivery. All that the program keeps fits together
   there.
2. Saves happen at boundaries, and have exactly that place as their position.
3. A save elsewhere (the program ends by an exception in the middle of a batch, say) has the position of the last
   boundary if no optimizer has stepped since, and otherwise the place after the batch that was used.
4. A pass whose iterator was dropped is over once the program comes to the next boundary, or to its end. Until
   then an exception may be what has dropped it.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sucrose.autopatch.position import OUTSIDE, Event, Position, UnfinishedPass
from sucrose.data_order.random_states import RandomStates

Begun = Mapping[str, int]
"""Of each loader, how many passes."""


@dataclass(slots=True, eq=False, kw_only=True)
class Pass:
    """One iteration over a loader."""

    loader: str
    number: int
    start: RandomStates
    first: RandomStates | None = None
    delivered: int = 0
    steps_at_delivery: int = -1
    begun_at_delivery: Begun = field(default_factory=dict)
    changes_at_start: object = None
    """Equal to a later one where nothing was learnt since."""
    used_at_boundary: int | None = None
    """Of the last boundary; None where the pass began after it."""
    begun_at_boundary: Begun = field(default_factory=dict)
    """`begun_at_delivery` as it was at the last boundary."""
    has_died: bool = False
    """The iterator was dropped before its end."""
    is_left: bool = False
    """The program called `sys.exit` during the pass."""
    serial: int = 0
    """Grows from pass to pass."""
    death: weakref.ref[Any] | None = None
    """Notices the iterator's."""

    def has_unused_batch(self, steps: int) -> bool:
        return self.delivered > 0 and self.steps_at_delivery == steps

    def used(self, steps: int) -> int:
        return self.delivered - self.has_unused_batch(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """The last one."""

    event: Event
    random: RandomStates
    steps: int


class Timeline:
    """What has happened so far. Changed by the main thread only.

    Args:
        capture: takes the states of all generators.
        look: something that differs where anything else was learnt.
    """

    def __init__(self, capture: Callable[[], RandomStates], look: Callable[[], object]) -> None:
        self._capture = capture
        self._look = look
        self.begun: Begun = {}
        self.trained: set[str] = set()
        self._open: list[Pass] = []
        """Not known to be over, in the order in which they began."""
        self._of_iterators: dict[int, Pass] = {}
        self.steps = 0
        """That optimizers have completed."""
        self.earlier_steps = 0
        """The same, in earlier runs."""
        self.boundary: Boundary | None = None
        self.is_at_boundary = False
        self._serials = itertools.count()
        self._calls: Counter[str] = Counter()
        """Steps of optimizers and schedulers since the last boundary or end of a pass, whichever is later."""
        self._schedules = 0
        self._begun_since: list[str] = []
        self._ended_since: list[Pass] = []
        self._random_at_end: RandomStates | None = None

    def note_step(self, optimizer: str) -> None:
        """An optimizer has stepped."""
        self.steps += 1
        self._calls[optimizer] += 1
        for one in self._open:
            if not one.has_died:
                self.trained.add(one.loader)

    def note_schedule(self, scheduler: str) -> None:
        """A scheduler has stepped."""
        self._schedules += 1
        self._calls[scheduler] += 1

    def note_swallowed(self, called: str) -> None:
        """An optimizer or a scheduler would have stepped, had an earlier run not saved the effect."""
        self._calls[called] += 1

    def note_leaving(self) -> None:
        """`sys.exit` was called: what it drops is not over."""
        for one in self._open:
            one.is_left = not one.has_died

    def begin_pass(self, loader: str, iterator: Any, start: RandomStates) -> None:
        """Another pass over `loader` has begun."""
        number = self.begun.get(loader, 0)
        self.begun = {**self.begun, loader: number + 1}  # a new one: passes refer to it as it was
        self._begun_since.append(loader)
        self._add(Pass(loader=loader, number=number, start=start, changes_at_start=self._changes()), iterator)

    def resume_pass(self, saved: UnfinishedPass, iterator: Any) -> None:
        """A pass of an earlier run goes on with `iterator`; after `resume`."""
        one = Pass(
            loader=saved.loader,
            number=saved.number,
            start=saved.start,
            first=saved.first,
            delivered=saved.used,
            begun_at_delivery=saved.begun,
            used_at_boundary=saved.used,
            begun_at_boundary=saved.begun,
            # What has changed since its beginning is not known.
            changes_at_start=object() if saved.used else self._changes(),
        )
        self._add(one, iterator)

    def resume(self, position: Position) -> None:
        """The program is where an earlier run was."""
        self.begun = dict(position.begun)
        self.trained = set(position.trained)
        self.earlier_steps = position.steps - self.steps
        self.boundary = Boundary(event=position.event, random=position.random, steps=self.steps)
        self._open.clear()
        self._of_iterators.clear()
        self._forget_since()
        self._random_at_end = position.random if position.event == OUTSIDE else None

    def note_delivery(self, one: Pass) -> None:
        """The pass has given the program a batch."""
        one.delivered += 1
        one.steps_at_delivery = self.steps
        one.begun_at_delivery = self.begun

    def find(self, iterator: Any) -> Pass | None:
        """The pass of an iterator; None where it is over, or no pass of ours."""
        return self._of_iterators.get(id(iterator))

    def end_pass(self, one: Pass, iterator: Any) -> None:
        """The pass is exhausted."""
        self._of_iterators.pop(id(iterator), None)
        one.death = None
        self._open.remove(one)
        self._ended_since.append(one)
        self._note_end()

    def enter_boundary(self, event: Event, asked: Pass | None = None) -> bool:
        """Says whether this is a boundary; if so, it is the last one from here on.

        Args:
            event: what is about to happen.
            asked: the pass that is about to be asked for a batch.
        """
        if any(one.has_died for one in self._open):
            self._open = [one for one in self._open if not one.has_died]
        if any(one.has_unused_batch(self.steps) for one in self._open if one is not asked):
            return False
        self.boundary = Boundary(event=event, random=self._capture(), steps=self.steps)
        for one in self._open:
            one.used_at_boundary = one.delivered
            one.begun_at_boundary = one.begun_at_delivery
        self._forget_since()
        return True

    def delivered(self, loader: str, number: int) -> int | None:
        """Batches of a pass that is not over."""
        of_pass = (one.delivered for one in self._open if (one.loader, one.number) == (loader, number))
        return next(of_pass, None)

    @property
    def has_stepped_since(self) -> bool:
        """Whether an optimizer has, since the last boundary."""
        return self.boundary is None or self.boundary.steps != self.steps

    @property
    def has_called_since(self) -> bool:
        """Whether an optimizer or a scheduler was called since the last boundary."""
        return self.boundary is None or bool(self._calls)

    def position(self, *, was_interrupted: bool) -> Position:
        """Where the program is now.

        Args:
            was_interrupted: an exception has ended the program.
        """
        boundary = self.boundary
        if self.is_at_boundary:
            assert boundary is not None
            return self._position_at(boundary)
        unfinished = [one for one in self._open if not one.has_died or was_interrupted or one.is_left]
        if not unfinished:
            return self._position(OUTSIDE, self._random_outside(), begun=self.begun)
        if boundary is not None and not self.has_stepped_since:
            return self._position_at(boundary)
        innermost = unfinished[-1]
        asked = next((one for one in unfinished if boundary is not None and _is_of(one, boundary.event)), innermost)
        return self._position(
            Event("next", asked.loader, asked.number),
            self._capture(),
            begun=self.begun,
            unfinished=tuple(_unfinished(one, one.used(self.steps), one.begun_at_delivery) for one in unfinished),
            swallow={},
        )

    def _random_outside(self) -> RandomStates:
        """Where the program begins again: after its last pass, or in a program without passes before its last step."""
        if self.boundary is not None and not self.begun:
            return self.boundary.random
        return self._random_at_end or self._capture()

    def _position_at(self, boundary: Boundary) -> Position:
        began_after = Counter(self._begun_since)
        begun = {loader: number - began_after[loader] for loader, number in self.begun.items()}
        passes = [*self._ended_since, *self._open]
        known = [one for one in passes if one.used_at_boundary is not None]
        asked = next((one for one in known if _is_of(one, boundary.event)), None)
        if asked is not None and self._can_begin_again(asked, known):
            known.remove(asked)
            begun[asked.loader] = asked.number
            event, random = Event("iter", asked.loader, asked.number), asked.start
        else:
            event, random = boundary.event, boundary.random
        known.sort(key=lambda one: one.serial)
        unfinished = tuple(_unfinished(one, one.used_at_boundary or 0, one.begun_at_boundary) for one in known)
        return self._position(event, random, begun=begun, unfinished=unfinished)

    def _can_begin_again(self, asked: Pass, known: list[Pass]) -> bool:
        """Whether going back to its beginning changes nothing but the time it takes.

        So it is in an evaluation, whose sums are then right, too.
        """
        is_innermost = len(self._begun_since) == 0 and asked.serial == max(one.serial for one in known)
        return is_innermost and asked.changes_at_start == self._changes()

    def _position(
        self,
        event: Event,
        random: RandomStates,
        *,
        begun: Mapping[str, int],
        unfinished: tuple[UnfinishedPass, ...] = (),
        swallow: Mapping[str, int] | None = None,
    ) -> Position:
        return Position(
            event=event,
            begun=dict(begun),
            unfinished=unfinished,
            trained=frozenset(self.trained),
            random=random,
            steps=self.earlier_steps + self.steps,
            swallow=dict(self._calls) if swallow is None else swallow,
        )

    def _add(self, one: Pass, iterator: Any) -> None:
        identity = id(iterator)
        before = self._of_iterators.get(identity)
        if before is not None:  # workers that persist have one iterator for all passes
            before.has_died = True

        def note_death(_: Any) -> None:
            if self._of_iterators.get(identity) is one:
                del self._of_iterators[identity]
            one.has_died = True
            self._note_end()

        one.serial = next(self._serials)
        one.death = weakref.ref(iterator, note_death)
        self._of_iterators[identity] = one
        self._open.append(one)

    def _changes(self) -> object:
        return self.steps, self._schedules, self._look()

    def _note_end(self) -> None:
        self._calls.clear()
        self._random_at_end = self._capture()

    def _forget_since(self) -> None:
        self._calls.clear()
        self._begun_since.clear()
        self._ended_since.clear()
        self._random_at_end = None


def _is_of(one: Pass, event: Event) -> bool:
    return event.kind == "next" and (one.loader, one.number) == (event.loader, event.number)


def _unfinished(one: Pass, used: int, begun: Begun) -> UnfinishedPass:
    return UnfinishedPass(
        loader=one.loader, number=one.number, used=used, start=one.start, first=one.first, begun=begun
    )

"""The passes over one loader: counted as they go, and begun again after a load.

1. A pass that the program begins is the *current* one. Where an earlier one is not over, only the later is known.
2. It is over when it is exhausted, when its iterator was dropped, or when another begins.
3. After a load, as many passes as were over in that epoch yield nothing, the next one goes on where it was, and
   all after that are new.

Not thread-safe: a loader is used in one thread.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch.utils.data import DataLoader

from sucrose.data_order.counted_iterator import CountedIterator, Pass
from sucrose.data_order.place import LoaderPlace, PassPlace
from sucrose.data_order.private_states import PrivateStates
from sucrose.data_order.random_states import RandomStates, generators_of
from sucrose.data_order.restarting import restart
from sucrose.data_order.skipping import start_workers

_KEY = "own"  # of the loader's generators: it is one loader's states that they are part of


class Passes:
    """See above.

    Args:
        loader: what the passes go over; not kept alive.
        make: its own ``__iter__``.
    """

    def __init__(self, loader: Any, make: Callable[[Any], Any]) -> None:
        self.current: Pass | None = None
        self.listeners: list[weakref.WeakMethod[Callable[[], None]]] = []
        """What is called at boundaries."""
        self._loader = weakref.ref(loader)
        self._make = make
        self._pid = os.getpid()
        self._begun = 0
        self._completed = 0
        """Of this epoch."""
        self._pending: LoaderPlace | None = None
        """What was loaded and is still to be done: it has passes that are over, or one that goes on."""
        self._place_before: LoaderPlace | None = None
        """What stands for the place while somebody is looking ahead."""
        self._had_workers: bool | None = None
        """What the next pass has to find; None where that is what there is."""
        self._generators = dict(generators_of(_KEY, loader))
        self._private = PrivateStates(loader)

    @property
    def skipped(self) -> int:
        """Batches that the current pass, or else the next one, does not deliver."""
        self._settle()
        if self.current is not None:
            return self.current.skipped
        pending = self._pending
        if pending is None or pending.completed or pending.current is None:
            return 0
        return pending.current.used

    @property
    def completed(self) -> int:
        """Passes of this epoch that are over."""
        self._settle()
        return self._completed

    @property
    def is_under_way(self) -> bool:
        """Whether a pass has begun here and is not over."""
        self._settle()
        return self.current is not None

    @contextmanager
    def looking_ahead(self) -> Iterator[bool]:
        """Tells whether the current pass will deliver another batch.

        Of a loader without a length that batch is fetched. Inside, `place` and the generators are as before that.
        """
        self._settle()
        one = self.current
        iterator = None if one is None or one.iterator is None else one.iterator()
        nbatches = _length(self._loader())
        if one is None or iterator is None or nbatches is not None:
            yield one is not None and one.used < (nbatches or 0)
            return
        place, before = self.place(), self.capture_random()
        has_batches_left = iterator.look_ahead()
        after = self.capture_random()
        before.apply(self._generators)
        self._place_before = place
        try:
            yield has_batches_left
        finally:
            self._place_before = None
            after.apply(self._generators)

    def begin(self) -> Any:
        """Instead of the loader's ``__iter__``.

        Raises:
            StateMismatchError: the pass that is to go on has fewer batches than were used.
        """
        loader = self._loader()
        if os.getpid() != self._pid:  # a forked child's passes are not the program's
            return self._make(loader)
        self._settle()
        pending = self._pending
        if pending is not None and pending.completed:
            return self._track(Pass(self._start_of_pass(loader)), iter(()))
        if pending is not None and pending.current is not None:
            return self._go_on(loader, pending, pending.current)
        if self._had_workers is not None:
            self._prepare_workers(loader, had_workers=self._had_workers)
            self._had_workers = None
        one = Pass(self._start_of_pass(loader))
        source = self._make(loader)
        self._begun += 1
        return self._track(one, source)

    def exhaust(self, one: Pass) -> None:
        """The pass is exhausted."""
        one.is_exhausted = True
        self._settle()
        self.reach_boundary()

    def finish_epoch(self) -> None:
        """From here on passes are those of another epoch."""
        self._settle()
        self._completed = 0
        if self._pending is not None:
            self._set_pending(replace(self._pending, completed=0))

    def reach_boundary(self) -> None:
        """Tells everybody."""
        for listener in self.listeners:
            at_boundary = listener()
            if at_boundary is not None:
                at_boundary()

    def place(self) -> LoaderPlace:
        """Where the program is."""
        if self._place_before is not None:
            return self._place_before
        self._settle()
        pending = self._pending
        if pending is not None:
            return replace(pending, completed=self._completed + pending.completed)
        loader, one = self._loader(), self.current
        is_of_torch = isinstance(loader, DataLoader)
        current = None
        if one is not None:
            current = replace(one.place, used=one.used, own=_own(loader) if is_of_torch and one.used else None)
        return LoaderPlace(
            begun=self._begun,
            completed=self._completed,
            current=current,
            random=self.capture_random(),
            private=self._private.capture(loader),
            has_workers=_has_workers(loader) if self._had_workers is None else self._had_workers,
            own=None if is_of_torch else _own(loader),
        )

    def load(self, place: LoaderPlace) -> None:
        """The next passes are those that come after `place`."""
        loader: Any = self._loader()
        self.current = None
        self._begun = place.begun
        self._completed = 0
        self._had_workers = place.has_workers
        for name, state in place.random.generators.items():
            if name in self._generators:
                self._generators[name].set_state(state)
        self._private.apply(loader, place.private)
        if place.own is not None and hasattr(loader, "load_state_dict"):
            loader.load_state_dict(place.own)
        self._set_pending(place)

    def load_own(self, state: Any) -> None:
        """A state that the loader itself has given: the next pass begins with it."""
        self.current = self._pending = self._had_workers = None
        self._completed = 0
        loader: Any = self._loader()
        loader.load_state_dict(state)

    def capture_random(self) -> RandomStates:
        """The states of the global generators, and of those that the loader was given."""
        return RandomStates.capture(self._generators)

    def _go_on(self, loader: Any, pending: LoaderPlace, place: PassPlace) -> CountedIterator:
        before = self.capture_random()
        try:
            self._prepare_workers(loader, had_workers=place.had_workers)
            self._private.apply(loader, place.private)
            source = restart(place, loader, self._make, self._generators)
        except BaseException:
            before.apply(self._generators)
            raise
        pending.random.apply(self._generators)
        self._private.apply(loader, pending.private)
        self._pending = self._had_workers = None
        return self._track(Pass(place, used=place.used, skipped=place.used), source)

    def _start_of_pass(self, loader: Any) -> PassPlace:
        return PassPlace(
            used=0,
            start=self.capture_random(),
            first=None,
            private=self._private.capture(loader),
            had_workers=_has_workers(loader),
        )

    def _track(self, one: Pass, source: Any) -> CountedIterator:
        if self.current is not None:
            self._completed += 1
        self.current = one
        return CountedIterator(self, one, source)

    def _settle(self) -> None:
        """Notices what is over."""
        one = self.current
        if one is None or not one.is_over():
            return
        self.current = None
        self._completed += 1
        pending = self._pending
        if pending is not None and pending.completed:
            self._set_pending(replace(pending, completed=pending.completed - 1))
            if self._pending is None:
                pending.random.apply(self._generators)

    def _set_pending(self, place: LoaderPlace) -> None:
        self._pending = place if place.completed or place.current is not None else None

    def _prepare_workers(self, loader: Any, *, had_workers: bool) -> None:
        """Workers that persist are there when a pass begins, or are not, as they were: each way draws other numbers."""
        if not had_workers and _has_workers(loader):
            vars(loader)["_iterator"] = None
        elif had_workers and _keeps_workers(loader) and not _has_workers(loader):
            before = self.capture_random()
            start_workers(self._make, loader)
            before.apply(self._generators)


def _own(loader: Any) -> Any:
    return loader.state_dict() if hasattr(loader, "state_dict") else None


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except TypeError:
        return None


def _keeps_workers(loader: Any) -> bool:
    return isinstance(loader, DataLoader) and loader.persistent_workers and loader.num_workers > 0


def _has_workers(loader: Any) -> bool:
    return _keeps_workers(loader) and loader._iterator is not None  # noqa: SLF001 - torch tells nowhere else

"""What a program iterates over instead of a loader's own iterator."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from sucrose.data_order.passes import Passes
    from sucrose.data_order.place import PassPlace


@dataclass(slots=True, eq=False)
class Pass:
    """One that has begun."""

    place: PassPlace
    """As it was at its beginning, but for `first`."""
    used: int = 0
    """Batches delivered: at a boundary these are used."""
    skipped: int = 0
    iterator: weakref.ref[CountedIterator] | None = None
    is_exhausted: bool = False

    def is_over(self) -> bool:
        """Whether nothing will come of it any more."""
        return self.is_exhausted or (self.iterator is not None and self.iterator() is None)


@final
class CountedIterator:
    """A loader's iterator, and boundaries.

    Args:
        passes: who is told.
        one: the pass that this is.
        source: the loader's own iterator.
    """

    __slots__ = ("__weakref__", "_ahead", "_one", "_passes", "_source")

    def __init__(self, passes: Passes, one: Pass, source: Any) -> None:
        self._passes = passes
        self._one = one
        self._source = source
        self._ahead: list[Any] | None = None
        """What `look_ahead` has found: a batch, or nothing; None: nobody has looked."""
        one.iterator = weakref.ref(self)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        one, passes = self._one, self._passes
        is_current = passes.current is one
        if is_current:
            passes.reach_boundary()
            self._note_first()
        try:
            batch = self._fetch()
        except StopIteration:
            if is_current:
                passes.exhaust(one)
            raise
        one.used += 1
        return batch

    def look_ahead(self) -> bool:
        """Whether there is another batch, which is fetched to that end."""
        if self._ahead is None:
            self._note_first()
            self._ahead = [*islice(self._source, 1)]
        return bool(self._ahead)

    def _note_first(self) -> None:
        if self._one.place.first is None:
            self._one.place = replace(self._one.place, first=self._passes.capture_random())

    def _fetch(self) -> Any:
        ahead, self._ahead = self._ahead, None
        return next(self._source if ahead is None else iter(ahead))

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

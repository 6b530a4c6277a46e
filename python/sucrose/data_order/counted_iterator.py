"""What a program iterates over instead of a loader's own iterator."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
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

    __slots__ = ("__weakref__", "_one", "_passes", "_source")

    def __init__(self, passes: Passes, one: Pass, source: Any) -> None:
        self._passes = passes
        self._one = one
        self._source = source
        one.iterator = weakref.ref(self)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        one, passes = self._one, self._passes
        is_current = passes.current is one
        if is_current:
            passes.reach_boundary()
            if one.place.first is None:
                one.place = replace(one.place, first=passes.capture_random())
        try:
            batch = next(self._source)
        except StopIteration:
            if is_current:
                passes.exhaust(one)
            raise
        one.used += 1
        return batch

    def __len__(self) -> int:
        return len(self._source)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

"""`enumerate` that knows of batches which do not come again.

``for i, batch in enumerate(loader)``: in the pass that was interrupted, `i` has to go on where it was.
Until that pass is reached, `builtins.enumerate` is a subclass whose objects are told how many batches
were skipped during their ``__next__``, whatever lies between them and the loader.
"""

from __future__ import annotations

import builtins
from typing import Any

_enumerate = builtins.enumerate


class _Skipped:
    now = 0
    """Batches skipped since the innermost `__next__` below began."""


def note_skipped(count: int) -> None:
    """`count` batches were skipped before the one that is delivered now."""
    _Skipped.now = max(_Skipped.now, count)


class CountingEnumerate(_enumerate):  # type: ignore[type-arg]
    """As `enumerate`, and counts skipped batches."""

    def __init__(self, iterable: Any, start: int = 0) -> None:  # noqa: ARG002 - __new__ has taken them
        self._skipped = 0

    def __next__(self) -> tuple[int, Any]:
        before, _Skipped.now = _Skipped.now, 0
        try:
            index, item = super().__next__()
        finally:
            self._skipped += _Skipped.now
            _Skipped.now = max(before, _Skipped.now)
        return index + self._skipped, item


def count_skipped() -> None:
    """From here on the program's `enumerate` is the one above."""
    builtins.enumerate = CountingEnumerate  # type: ignore[misc]


def count_as_usual() -> None:
    """Puts Python's own back. Objects that were made meanwhile go on counting right."""
    if builtins.enumerate is CountingEnumerate:
        builtins.enumerate = _enumerate  # type: ignore[misc]

"""Pins that were set or taken back after the save: empty files below ``.pins``, one for each generation.

Where both markers of a generation are there, as after a crash in between, it is pinned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

PINNED = ".pinned"
UNPINNED = ".unpinned"


class Pins(ABC):
    """The markers of one catalog. Thread-safe."""

    @abstractmethod
    def marks(self) -> dict[str, bool]:
        """Whether they are pinned, of the generations that have a marker."""

    @abstractmethod
    def set(self, generation_id: str, *, pinned: bool) -> None:
        """Puts the marker there, for good when this returns."""

    @abstractmethod
    def is_pinned(self, generation_id: str, *, by_record: bool) -> bool:
        """As `marks`, for one generation; `by_record` is what its save said."""

    @abstractmethod
    def forget(self, generation_id: str) -> None:
        """Removes the markers of a generation that is gone."""


def marks_of(names: Iterable[str]) -> dict[str, bool]:
    """What the names of the markers say."""
    names = list(names)
    marks = {name.removesuffix(UNPINNED): False for name in names if name.endswith(UNPINNED)}
    marks |= {name.removesuffix(PINNED): True for name in names if name.endswith(PINNED)}
    return marks

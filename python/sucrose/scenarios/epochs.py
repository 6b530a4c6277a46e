"""The epochs that come next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import overload


class EpochRange(Sequence[int]):
    """Numbers of epochs, ascending, as a `range` has them.

    Args:
        numbers: of the epochs.
        begin: called when the first of them begins.
        end: called when the loop is over, or was left.
    """

    def __init__(self, numbers: range, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._numbers = numbers
        self._begin = begin
        self._end = end

    def __iter__(self) -> Iterator[int]:
        self._begin()
        try:
            yield from self._numbers
        finally:
            self._end()

    def __contains__(self, number: object) -> bool:  # that of sequences would begin a loop
        return number in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        return self._numbers[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, EpochRange):
            return self._numbers == other._numbers
        return bool(self._numbers == other)

    def __hash__(self) -> int:
        return hash(self._numbers)

    def __repr__(self) -> str:
        return f"epochs {self._numbers.start} to {self._numbers.stop - 1}" if self._numbers else "no epochs"

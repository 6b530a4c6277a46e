"""Numbers from repeated runs: a median with its range, and ratios taken round by round."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some runs, and the least and the most of them."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ValueError where there are no values."""
        ordered = sorted(values)
        if not ordered:
            raise ValueError("no runs")
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


def speed_ratio(seconds: Sequence[float], than: Sequence[float]) -> Spread:
    """How many times as fast as `than`, from runs of the same rounds.

    A shared disk drifts between rounds and hardly within one, so the ratio is taken first and the median after.
    """
    return Spread.of(other / own for own, other in zip(seconds, than, strict=True))

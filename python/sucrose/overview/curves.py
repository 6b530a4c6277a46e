"""What a curve comes to: where it ended, and where it was lowest and highest."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value of a curve."""

    step: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Summary of one tag of one run.

    Attributes:
        n_points: how many there are.
        last: that with the highest step, whatever its value.
        lowest: the first of those with the smallest finite value; None where none is finite.
        highest: likewise of the largest.
    """

    n_points: int
    last: Point
    lowest: Point | None
    highest: Point | None


def summarise(points: Iterable[tuple[int, float]]) -> Curve:
    """The summary of a curve.

    Args:
        points: steps and values, at least one, in any order; of equal steps the later one counts.

    Example:
        >>> summarise([(1, 0.5), (2, 0.25), (3, 0.75)]).lowest
        Point(step=2, value=0.25)
    """
    values = dict(points)
    steps = sorted(values)
    finite = [step for step in steps if math.isfinite(values[step])]
    lowest = min(finite, key=values.__getitem__, default=None)
    highest = max(finite, key=values.__getitem__, default=None)
    return Curve(
        n_points=len(steps),
        last=Point(step=steps[-1], value=values[steps[-1]]),
        lowest=None if lowest is None else Point(step=lowest, value=values[lowest]),
        highest=None if highest is None else Point(step=highest, value=values[highest]),
    )

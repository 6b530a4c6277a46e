"""The curves of one scenario: its own, and those that `add_scalars` has put into runs below it."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sucrose.post.run_folders import RunFolder


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


def curves_of(logs_dir: str, others: Collection[str]) -> dict[str, Curve]:
    """What each curve of a scenario comes to, attempts joined.

    Args:
        logs_dir: the scenario's.
        others: folders of other scenarios, which may lie below that one.

    Returns:
        By tag. `add_scalars` uses one tag for several runs; theirs are like ``"loss [loss_train]"``.

    Raises:
        ImportError: something that reading event files needs is not installed.
        OSError: an event file cannot be read.
    """
    from sucrose.post.event_scalars import RunScalars

    found = {}
    for run in own_runs(logs_dir, others):
        scalars = RunScalars(lambda _: True)
        for path in run.files:
            scalars.read(path)
        for tag, series in scalars.series().items():
            points = zip(series.steps.tolist(), series.values.tolist(), strict=True)
            found[label_of(tag, run)] = summarise(points)
    return found


def own_runs(logs_dir: str, others: Collection[str]) -> list[RunFolder]:
    """Folders with event files below `logs_dir`, named relatively to it, but those of `others`.

    Raises:
        ImportError: something that reading event files needs is not installed.
    """
    from sucrose.post.run_folders import find_runs

    return [run for run in find_runs(logs_dir) if not _is_in_any(others, logs_dir, run.name)]


def label_of(tag: str, run: RunFolder) -> str:
    """How a curve is called among those of its scenario."""
    return tag if run.name == os.curdir else f"{tag} [{run.name}]"


def _is_in_any(others: Collection[str], logs_dir: str, name: str) -> bool:
    while name not in ("", os.curdir):
        if os.path.join(logs_dir, name) in others:
            return True
        name = os.path.dirname(name)
    return False

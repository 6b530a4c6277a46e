"""Curves as SVG paths, and as data for the script that shows values under the pointer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sucrose.overview.report_axis import Axis
from sucrose.post.palette import COLOURS, DASHES
from sucrose.post.scale import suits_log_scale
from sucrose.post.smoothing import smooth
from sucrose.post.thinning import thin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sucrose.post.series import Series

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 432, 10, 222
_MAX_POINTS = 1000  # of a curve
_MIN_POINTS = 50
_MAX_POINTS_IN_ALL = 100_000  # about 3 MB of HTML
_LARGEST = 1e300  # so that differences stay finite


@dataclass(frozen=True, slots=True)
class Line:
    """A curve in a panel.

    Attributes:
        run: number of its run.
        path: what is drawn.
        raw_path: what is drawn faintly behind, where the curve is smoothed.
    """

    run: int
    path: str
    raw_path: str


@dataclass(frozen=True, slots=True)
class CurvePanel:
    """All curves of one tag."""

    tag: str
    x: Axis
    y: Axis
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Curves:
    """Everything that is drawn.

    Attributes:
        runs: name, number of the colour, and dashes; runs are numbered in this order.
        panels: by tag.
        data: for the script.
        n_left_out: points that are not drawn, as nobody would see them.
    """

    runs: list[tuple[str, int, str]]
    panels: list[CurvePanel]
    data: dict[str, Any]
    n_left_out: int


def draw_curves(scalars: Mapping[tuple[str, str], Series], smoothing: float) -> Curves:
    """One panel for each tag; a run has the same colour in all of them.

    Raises:
        ConfigError: `smoothing` is not allowed.
    """
    runs = sorted({run for run, _ in scalars})
    numbers = {run: number for number, run in enumerate(runs)}
    limit = min(_MAX_POINTS, max(_MIN_POINTS, _MAX_POINTS_IN_ALL // max(1, len(scalars))))
    panels, data = [], []
    n_left_out = 0
    for tag in sorted({tag for _, tag in scalars}):
        own = {numbers[run]: series for (run, of), series in scalars.items() if of == tag}
        panel, lines = _panel(tag, own, smoothing, limit)
        panels.append(panel)
        n_left_out += sum(map(len, own.values())) - sum(len(line["steps"]) for line in lines)
        data.append({"x": panel.x.content(), "y": panel.y.content(), "lines": lines})
    styles = [(run, number % len(COLOURS), _dashes(number)) for number, run in enumerate(runs)]
    frame = {"left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM, "width": WIDTH, "height": HEIGHT}
    return Curves(styles, panels, {"runs": runs, "panels": data, "frame": frame}, n_left_out)


def _panel(
    tag: str, series: Mapping[int, Series], smoothing: float, limit: int
) -> tuple[CurvePanel, list[dict[str, Any]]]:
    bounded = {run: np.clip(one.values, -_LARGEST, _LARGEST) for run, one in series.items()}  # NaN stays
    bounded = {run: np.where(np.isinf(series[run].values), np.nan, values) for run, values in bounded.items()}
    smoothed = {run: smooth(values, smoothing) for run, values in bounded.items()}
    everything = np.concatenate([*bounded.values()])
    x = Axis.over(np.concatenate([one.steps.astype(np.float64) for one in series.values()]), LEFT, RIGHT, is_exact=True)
    y = Axis.over(everything, BOTTOM, TOP, is_log=suits_log_scale(everything))
    lines, data = [], []
    for run, one in series.items():
        drawn = thin(smoothed[run], limit)
        steps, values = one.steps[drawn].astype(np.float64), smoothed[run][drawn]
        raw_path = ""
        if smoothing:
            behind = thin(bounded[run], limit)
            raw_path = _path(x.positions(one.steps[behind].astype(np.float64)), y.positions(bounded[run][behind]))
        lines.append(Line(run, _path(x.positions(steps), y.positions(values)), raw_path))
        data.append(
            {"run": run, "steps": one.steps[drawn].tolist(), "values": [_rounded(value) for value in values.tolist()]}
        )
    return CurvePanel(tag, x, y, lines), data


def _path(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> str:
    """Points joined, with a gap at each one that is not finite; a point without neighbours becomes a dot."""
    pieces: list[str] = []
    is_open = False
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        if not math.isfinite(y):
            is_open = False
            continue
        pieces.append(f"{'L' if is_open else 'M'}{x:.1f},{y:.1f}{'' if is_open else 'h0'}")
        is_open = True
    return "".join(pieces)


def _rounded(value: float) -> float | None:
    """Digits that somebody may read; JSON has no NaN."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _dashes(number: int) -> str:
    """As SVG has them, in pixels."""
    return " ".join(f"{2 * length:g}" for length in DASHES[number // len(COLOURS) % len(DASHES)])

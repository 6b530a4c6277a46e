"""Names at the ends of lines, so that nobody has to look for colours in a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray

_LINE_PT = 10.5  # from one label to the next
_AXES_SHARE = 0.7  # of a panel's height that is within its axes, about
_MAX_COUNT = 6
_MAX_SHIFT = 0.12  # of the height, from a line's end to its label
_MAX_CHARACTERS = 18


def label_ends(axes: Axes, lines: Sequence[Line2D], panel_height_pt: float) -> None:
    """Writes the name of each line at its end; does nothing where the names would not fit.

    Args:
        axes: what the lines are in.
        lines: with labels.
        panel_height_pt: of the axes and what is around them.
    """
    ends = [_end_of(axes, line) for line in lines]
    names = shortest_tails([str(line.get_label()) for line in lines])
    if not 2 <= len(lines) <= _MAX_COUNT or max(map(len, names)) > _MAX_CHARACTERS:
        return
    if any(end is None for end in ends):
        return
    wanted = np.array([end for end in ends if end is not None])
    heights = spread(wanted, _LINE_PT / (panel_height_pt * _AXES_SHARE))
    if heights is None or np.abs(heights - wanted).max() > _MAX_SHIFT:
        return
    for line, name, height in zip(lines, names, heights.tolist(), strict=True):
        axes.annotate(
            name,
            (1.0, height),
            xytext=(4, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=line.get_color(),
            annotation_clip=False,
        )


def spread(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64] | None:
    """Heights from 0 to 1 as near to the wanted ones as a gap between neighbours allows; None where there is no room.

    Example:
        >>> import numpy as np
        >>> spread(np.array([0.5, 0.5]), 0.1).round(2).tolist()
        [0.45, 0.55]
    """
    if gap * (len(wanted) - 1) > 1:
        return None
    order = np.argsort(wanted, kind="stable")
    # Groups of labels that touch move together, to the mean of where their members want to be.
    groups: list[list[float]] = []
    for height in wanted[order].tolist():
        groups.append([height])
        while len(groups) > 1 and _low(groups[-1], gap) < _high(groups[-2], gap) + gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    heights = np.concatenate([_low(group, gap) + gap * np.arange(len(group)) for group in groups])
    result = np.empty_like(heights)
    result[order] = heights
    return result


def shortest_tails(names: Sequence[str]) -> list[str]:
    """Names without leading segments that are not needed to tell them apart.

    Example:
        >>> shortest_tails(["base/case1", "base/case2"])
        ['case1', 'case2']
    """
    split = [name.split("/") for name in names]
    n_shared = 0
    while split and all(len(segments) > n_shared + 1 for segments in split):
        if len({segments[n_shared] for segments in split}) > 1:
            break
        n_shared += 1
    return ["/".join(segments[n_shared:]) for segments in split]


def _end_of(axes: Axes, line: Line2D) -> float | None:
    """Height of the last finite point, from 0 to 1; None where there is none."""
    xs, ys = (np.asarray(column, np.float64) for column in line.get_data())
    finite = np.flatnonzero(np.isfinite(ys) & ((ys > 0) | (axes.get_yscale() == "linear")))
    if not len(finite):
        return None
    last = finite[-1]
    axes.autoscale_view()
    height = axes.transAxes.inverted().transform(axes.transData.transform((xs[last], ys[last])))[1]
    return float(min(max(height, 0.0), 1.0))


def _low(group: list[float], gap: float) -> float:
    extent = gap * (len(group) - 1)
    return float(min(max(sum(group) / len(group) - extent / 2, 0.0), 1.0 - extent))


def _high(group: list[float], gap: float) -> float:
    return _low(group, gap) + gap * (len(group) - 1)

"""One figure with a panel for each tag, and in each panel one line for each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sucrose.post.direct_labels import label_ends
from sucrose.post.evolution import plain, plot_evolution
from sucrose.post.extra import require
from sucrose.post.palette import N_STYLES, style_of
from sucrose.post.thinning import thin

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sucrose.post.scale import LogScale

XAxis = Literal["step", "time"]

_INK, _FAINT_INK, _GRID = "#222222", "#666666", "#E4E4E4"
_SINGLE_SIZE_IN = (8.0, 5.0)
_PANEL_SIZE_IN = (4.8, 3.1)
_HEAD_IN = 0.7  # for the title and the legend
_MAX_POINTS = 4000  # of a line: more than a screen is wide
_LEGEND_ROW_IN = 0.19
_LEGEND_STROKE_IN, _LEGEND_CHARACTER_IN = 0.65, 0.08  # an entry has a stroke with room around it, and its name
_UNITS = ((86400.0 * 3, 86400.0, "days"), (7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def draw_panels(
    df: pd.DataFrame,
    *,
    title: str = "",
    smoothing: float = 0.0,
    log_scale: LogScale = "auto",
    x: XAxis = "step",
) -> Figure:
    """Draws logged scalars. A run has the same colour in all panels. Uses nothing of pyplot.

    The legend has as many runs as can be told apart, the first by their names.

    Args:
        df: as `LogDataFrame.load` returns it.
        title: stands above the legend.
        smoothing: as for `plot_evolution`.
        log_scale: likewise; "auto" is decided for each panel.
        x: "time" draws over the time since the first point of each run.

    Raises:
        ConfigError: an argument has a value that is not allowed.
        ImportError: matplotlib is not installed.
    """
    xlabel = "step"
    if x == "time":
        df, xlabel = _over_time(df)
    tags = sorted(df["tag"].unique())
    runs = sorted(df["run"].unique())
    n_columns = min(len(tags), 2 if len(tags) <= 4 else 3) or 1
    n_rows = math.ceil(len(tags) / n_columns) or 1
    width, height = _SINGLE_SIZE_IN if len(tags) <= 1 else _PANEL_SIZE_IN
    n_legend_columns, n_legend_rows = _legend_shape(runs, width * n_columns)
    head_in = _HEAD_IN + _LEGEND_ROW_IN * max(0, n_legend_rows - 1)
    figure: Figure = require("matplotlib.figure").Figure(
        (width * n_columns, height * n_rows + head_in), facecolor="white"
    )
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    grid = figure.add_gridspec(n_rows, n_columns)
    formats: dict[str, Any] = {}
    for index, run in enumerate(runs):
        colour, dashes = style_of(index)
        formats[run] = {"color": colour, "linewidth": 1.7, "solid_capstyle": "round", "label": plain(run)}
        if dashes:
            formats[run]["dashes"] = dashes
    for index, tag in enumerate(tags):
        axes = figure.add_subplot(grid[index // n_columns, index % n_columns])
        is_lowest = index + n_columns >= len(tags)
        own = df[df["tag"] == tag]
        lines = plot_evolution(
            own, axes, formats, xlabel=xlabel if is_lowest else "", ylabel="", log_scale=log_scale, smoothing=smoothing
        )
        _finish(axes, tag)
        label_ends(axes, lines, height * 72)
    if runs:
        _add_legend(figure, plain(title), [formats[run] for run in runs], n_legend_columns)
    return figure


def _over_time(df: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    seconds = df["wall_time"] - df.groupby("run", observed=True)["wall_time"].transform("min")
    longest = seconds.max() if len(seconds) else 0.0
    unit_s, unit = next((unit_s, unit) for at_least, unit_s, unit in _UNITS if longest >= at_least or not at_least)
    return df.set_index(seconds / unit_s), f"{unit} since the first point"


def _finish(axes: Axes, tag: str) -> None:
    """Takes away what is not data, and puts the tag where the eye begins."""
    ticker = require("matplotlib.ticker")
    legend = axes.get_legend()
    if legend is not None:
        legend.remove()
    for line in axes.lines:
        xs, ys = np.asarray(line.get_xdata()), np.asarray(line.get_ydata(), np.float64)
        drawn = thin(ys, _MAX_POINTS)
        line.set_data(xs[drawn], ys[drawn])
    axes.set_title(plain(tag), loc="left", fontsize=10.5, fontweight="bold", color=_INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#AAAAAA")
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", which="both", colors=_FAINT_INK, labelsize=8.5, length=0)
    axes.tick_params(axis="x", which="major", length=3)
    axes.xaxis.label.set(color=_FAINT_INK, fontsize=9)
    axes.margins(x=0.01)
    if not any(np.isfinite(np.asarray(line.get_ydata(), np.float64)).any() for line in axes.lines):
        axes.set_yticks([])
        axes.set_xticks([])
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=_FAINT_INK, fontsize=9)
        return
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=axes.get_xlabel() in ("step", "")))
        axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))


def _legend_shape(runs: Sequence[str], width_in: float) -> tuple[int, int]:
    """Columns and rows."""
    n_shown = min(len(runs), N_STYLES)
    longest = max(map(len, runs[:N_STYLES]), default=0)
    n_columns = max(1, min(n_shown, int(width_in / (_LEGEND_STROKE_IN + _LEGEND_CHARACTER_IN * longest))))
    return n_columns, math.ceil((n_shown + (len(runs) > n_shown)) / n_columns)


def _add_legend(figure: Figure, title: str, formats: Sequence[Mapping[str, Any]], n_columns: int) -> None:
    line2d = require("matplotlib.lines").Line2D
    handles = [line2d([], [], **one) for one in formats[:N_STYLES]]
    if len(formats) > N_STYLES:
        handles.append(line2d([], [], linestyle="none", label=f"and {len(formats) - N_STYLES} more"))
    legend = figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=n_columns,
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
        handlelength=2.2,
        alignment="left",
    )
    if title:
        legend.set_title(title)
        legend.get_title().set(fontsize=13, fontweight="bold", color=_INK)

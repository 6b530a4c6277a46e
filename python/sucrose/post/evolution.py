"""Curves of logged scalars in matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from sucrose.config.plain_values import printable
from sucrose.errors import ConfigError
from sucrose.post.extra import require
from sucrose.post.scale import LogScale, log_axes
from sucrose.post.smoothing import smooth

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Format = str | Mapping[str, Any]

_COLUMNS = ("value", "run", "tag")
_RAW_ALPHA = 0.25  # of the curve behind its smoothed one


def plot_evolution(
    df: pd.DataFrame,
    axes: Axes | None = None,
    fmts: Sequence[Format] | Mapping[Any, Format] | None = None,
    *,
    xlabel: str | None = None,
    ylabel: str | None = None,
    log_scale: LogScale = "auto",
    legend_fmt: str = "{run} - {tag}",
    smoothing: float = 0.0,
) -> list[Line2D]:
    """Draws one line for each run and tag, with a legend. Shows nothing and changes no setting of matplotlib's.

    Args:
        df: as `LogDataFrame.load` returns it; its index is drawn along x.
        axes: where to draw; None for pyplot's current axes.
        fmts: formats as in ``axes.plot(x, y, fmt)``, or mappings of the properties of lines. A sequence is used in
            turn; a mapping has them by ``(run, tag)``, by tag or by run, whichever is there first.
        xlabel: None for the name of the index.
        ylabel: None for the tag where there is one only, otherwise "value".
        log_scale: True, "y", "x", "both" or False; "auto" makes y logarithmic where all finite values are positive and
            span two decades or more, single spikes aside.
        legend_fmt: labels of the lines.
        smoothing: weight of TensorBoard's moving average, from 0 to below 1. The raw line is then drawn faintly behind.

    Returns:
        The lines, smoothed where asked for, by run and tag.

    Raises:
        ConfigError: an argument has a value that is not allowed, or `df` is of another form.
        ImportError: matplotlib is not installed.

    Example:
        >>> import matplotlib.figure, pandas as pd
        >>> from sucrose.post import plot_evolution
        >>> points = {"value": [1.0, 0.1, 0.001], "wall_time": [0.0, 1.0, 2.0], "run": "base", "tag": "loss"}
        >>> df = pd.DataFrame(points, index=pd.Index([1, 2, 3], name="step"))
        >>> axes = matplotlib.figure.Figure().add_subplot()
        >>> [line.get_label() for line in plot_evolution(df, axes)], axes.get_yscale()
        (['base - loss'], 'log')
    """
    missing = [column for column in _COLUMNS if column not in df.columns]
    if missing:
        raise ConfigError(f"the data frame has no column {missing[0]!r}; expected one as LogDataFrame.load returns it")
    is_x_log, is_y_log = log_axes(log_scale, df["value"].to_numpy(np.float64))
    if axes is None:
        axes = require("matplotlib.pyplot").gca()
    curves = list(_curves(df))
    smoothed = [smooth(values, smoothing) for *_, values in curves]  # before anything is drawn: it may refuse
    labels = [_label(legend_fmt, run, tag) for run, tag, *_ in curves]
    formats = _formats(fmts)
    lines = []
    for (run, tag, steps, values), smooth_values, label in zip(curves, smoothed, labels, strict=True):
        fmt = formats(run, tag)
        positional, properties = ((fmt,), {}) if isinstance(fmt, str) else ((), dict(fmt))
        properties.setdefault("label", label)
        [line] = axes.plot(steps, smooth_values, *positional, **properties)
        if len(steps) == 1 and line.get_marker() == "None":
            line.set_marker("o")  # a line of one point is nothing to be seen
        if smoothing:
            _draw_behind(axes, line, values)
        lines.append(line)
    if is_x_log:
        axes.set_xscale("log", nonpositive="mask")
    if is_y_log:
        axes.set_yscale("log", nonpositive="mask")
    tags = {tag for _, tag, *_ in curves}
    axes.set_xlabel(xlabel if xlabel is not None else "step" if df.index.name is None else str(df.index.name))
    axes.set_ylabel(ylabel if ylabel is not None else plain(tags.pop()) if len(tags) == 1 else "value")
    if not all(str(line.get_label()).startswith("_") for line in lines):  # those are matplotlib's own
        axes.legend()
    return lines


def plain(name: str) -> str:
    """A name as a text of matplotlib's, for which dollars would begin a formula and other characters are none."""
    return printable(name).replace("$", r"\$")


def _curves(df: pd.DataFrame) -> Iterator[tuple[str, str, Any, Any]]:
    for (run, tag), points in df.groupby(["run", "tag"], observed=True, sort=True):
        ordered = points.sort_index(kind="stable")
        yield str(run), str(tag), ordered.index.to_numpy(), ordered["value"].to_numpy(np.float64)


def _label(legend_fmt: str, run: str, tag: str) -> str:
    try:
        return legend_fmt.format(run=plain(run), tag=plain(tag))
    except (LookupError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"legend_fmt={legend_fmt!r}: {error}; expected a format of run and tag, such as '{{run}} - {{tag}}'"
        ) from error


def _formats(fmts: Sequence[Format] | Mapping[Any, Format] | None) -> Any:
    """A function of run and tag."""
    if isinstance(fmts, Mapping):
        return lambda run, tag: next((fmts[key] for key in ((run, tag), tag, run) if key in fmts), {})
    in_turn = cycle([fmts] if isinstance(fmts, str) else fmts or [{}])
    return lambda _run, _tag: next(in_turn)


def _draw_behind(axes: Axes, line: Line2D, values: Any) -> None:
    axes.plot(
        line.get_xdata(),
        values,
        color=line.get_color(),
        linewidth=line.get_linewidth() * 0.7,
        alpha=_RAW_ALPHA,
        zorder=line.get_zorder() - 0.1,
        label="_nolegend_",
    )

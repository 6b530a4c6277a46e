"""Step time over time while a snapshot is written: one panel per contender, all on the same axes."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from benchmarks.contenders import Role
from benchmarks.tables import number

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.loop import LoopTrace
    from benchmarks.records import Cell, Line

_OURS, _PEER, _WRITING, _SAVE = "#c2410c", "#1d4ed8", "#e5e7eb", "#111827"
_COLUMNS = 2


def plot_loops(cell: Cell, title: str, path: Path) -> None:
    """Draws the typical run of every contender of `cell`: the one with the median stall."""
    lines = cell.measured(Role.OURS, Role.PEER)
    rows = -(-len(lines) // _COLUMNS)
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        canvas = Figure(figsize=(5.2 * _COLUMNS, 1.9 * rows + 0.9), facecolor="white", layout="constrained")
        grid = canvas.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True).flatten()
        for axes, line in zip(grid, lines, strict=False):
            _panel(axes, line)
        for axes in grid[len(lines) :]:
            axes.set_visible(False)
        grid[0].set_yscale("log")
        grid[0].yaxis.set_major_formatter(ScalarFormatter())
        canvas.supxlabel("seconds since the save was called; grey: until it was durable")
        canvas.supylabel("step time, ms")
        canvas.suptitle(title, fontweight="bold")
        canvas.savefig(path, dpi=140)


def _panel(axes: Axes, line: Line) -> None:
    loop = sorted(line.later_loops(), key=lambda loop: loop.stall_s)[len(line.later_loops()) // 2]
    colour = _OURS if line.role is Role.OURS else _PEER
    axes.axvspan(0, loop.durable_s, color=_WRITING, linewidth=0)
    axes.axvline(0, color=_SAVE, linestyle="--", linewidth=1)
    axes.axhline(loop.undisturbed_s * 1000, color=_SAVE, linewidth=0.6, alpha=0.5)
    axes.step(_starts_s(loop), [seconds * 1000 for seconds in loop.step_s], where="post", color=colour, linewidth=1.4)
    axes.set_title(
        f"{line.name}: stall {number(loop.stall_s * 1000)} ms, then {loop.slow_down_percent:+.0f} %",
        loc="left",
        fontsize=9,
    )


def _starts_s(loop: LoopTrace) -> list[float]:
    """When each step began, counted from the call of the save."""
    starts = [0.0, *accumulate(loop.step_s)][:-1]
    called = starts[loop.save_step + 1] - loop.stall_s
    return [start - called for start in starts]

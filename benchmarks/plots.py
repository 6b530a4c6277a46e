"""Bar charts of results, one PNG per case and machine, with the raw limit drawn in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.contenders import BY_NAME, Role
from benchmarks.loop_plots import plot_loops
from benchmarks.records import Operation
from benchmarks.tables import figure, number, unit
from benchmarks.timing import Spread

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.records import Cell, Line, Result

_OURS, _NOTE, _LIMIT = "#c2410c", "#fdba74", "#111827"
_PEERS = (
    "#1d4ed8",
    "#0e7490",
    "#4d7c0f",
    "#6d28d9",
    "#9d174d",
    "#57534e",
    "#0369a1",
    "#a16207",
    "#be185d",
    "#15803d",
    "#4338ca",
    "#b45309",
)
_PEER_NAMES = [name for name, contender in BY_NAME.items() if contender.role is Role.PEER]
_TITLES = {
    Operation.SAVE: "save, fsync included",
    Operation.STALL: "stall",
    Operation.LOAD_HOT: "load, page cache hot",
    Operation.LOAD_COLD: "load, page cache cold",
    Operation.PUT: "save to an object store",
    Operation.GET: "load from an object store",
    Operation.SAVE_CPU: "save, per core",
    Operation.LOAD_CPU: "load, per core",
}


def plot(result: Result, path: Path) -> bool:
    """Draws a case, one panel per cell or per contender's loop; False where it has nothing to draw."""
    cells = [cell for cell in result.cells if cell.measured(Role.OURS, Role.PEER)]
    if not cells:
        return False
    if cells[0].operation is Operation.LOOP:
        plot_loops(cells[0], f"{result.case} · {result.title} · {result.machine['name']}", path)
        return True
    rows = max(len(_bars(cell)) for cell in cells)
    columns = min(3, len(cells))
    lines = -(-len(cells) // columns)
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        canvas = Figure(
            figsize=(4.6 * columns, lines * (1.2 + 0.28 * rows) + 0.5), facecolor="white", layout="constrained"
        )
        grid = canvas.subplots(lines, columns, squeeze=False).flatten()
        for axes, cell in zip(grid, cells, strict=False):
            _panel(axes, cell)
        for axes in grid[len(cells) :]:
            axes.set_visible(False)
        canvas.suptitle(f"{result.case} · {result.title} · {result.machine['name']}", fontweight="bold")
        canvas.savefig(path, dpi=140)
    return True


def _panel(axes: Axes, cell: Cell) -> None:
    lines = _bars(cell)
    spreads = [figure(cell, line) for line in lines]
    medians = [spread.median for spread in spreads]
    ranges = [[s.median - s.min for s in spreads], [s.max - s.median for s in spreads]]
    names = [line.name for line in lines]
    axes.barh(names, medians, xerr=ranges, color=[_colour(line) for line in lines], ecolor="#6b7280", capsize=2)
    for index, spread in enumerate(spreads):
        label = axes.annotate(
            number(spread.median), (spread.max, index), (4, 0), textcoords="offset points", va="center"
        )
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8})
    if limit := cell.limit_s():
        bound = Spread.of(
            cell.nbytes / seconds / 1e9 if cell.operation.is_rate else seconds * 1000 for seconds in limit
        )
        label = f"{'raw limit' if cell.operation.is_rate else 'bare copy'} {number(bound.median)}"
        axes.axvline(bound.median, color=_LIMIT, linestyle="--", linewidth=1.2, label=label)
        axes.legend(loc="upper right", bbox_to_anchor=(1.02, -0.08), frameon=False)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(unit(cell.operation), loc="left")
    title = _TITLES.get(cell.operation, cell.operation.value)
    axes.set_title(f"{title}: {cell.state}" if cell.nbytes else title)


def _bars(cell: Cell) -> list[Line]:
    return cell.measured(Role.OURS, Role.PEER, Role.NOTE)


def _colour(line: Line) -> str:
    if line.role is not Role.PEER:
        return _OURS if line.role is Role.OURS else _NOTE
    return _PEERS[_PEER_NAMES.index(line.name) % len(_PEERS)]

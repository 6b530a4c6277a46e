"""The table of runs in a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sucrose.overview.text import nbytes_text, number_text, time_text

if TYPE_CHECKING:
    from sucrose.overview.runs import RunSummary

_MAX_METRIC_COLUMNS = 6


@dataclass(frozen=True, slots=True)
class Cell:
    """Text, what the table is sorted by, and a class of the style sheet; a cell without `order` comes last."""

    text: str
    order: float | str | None
    kind: str = "number"


@dataclass(frozen=True, slots=True)
class RunsTable:
    """Head and rows.

    Attributes:
        heads: what columns are called, and whether numbers stand in them.
        rows: cells of each run, and with them its summary.
    """

    heads: list[tuple[str, bool]]
    rows: list[tuple[RunSummary, list[Cell]]]


def runs_table(runs: Sequence[RunSummary]) -> RunsTable:
    """Metrics have a column each while there are few of them, and one for all of them otherwise."""
    metrics = sorted({metric for run in runs for metric in run.metrics})
    has_own_columns = len(metrics) <= _MAX_METRIC_COLUMNS
    heads = [("scenario", False), ("epochs", True), ("steps", True)]
    heads += [(metric, True) for metric in metrics] if has_own_columns else [("metrics", False)]
    heads += [("checkpoints", True), ("size", True), ("saved (UTC)", False), ("resumable", False)]
    rows = [(run, _cells(run, metrics if has_own_columns else None)) for run in runs]
    return RunsTable(heads, rows)


def _cells(run: RunSummary, metrics: Sequence[str] | None) -> list[Cell]:
    cells = [
        Cell(run.scenario, run.scenario, ""),
        Cell(str(run.epochs), run.epochs),
        Cell("–" if run.steps is None else str(run.steps), run.steps),
    ]
    if metrics is None:
        text = ", ".join(f"{name} {number_text(value)}" for name, value in sorted(run.metrics.items()))
        cells.append(Cell(text or "–", text or None, ""))
    else:
        cells += [_metric(run.metrics.get(metric)) for metric in metrics]
    return [
        *cells,
        Cell(str(run.n_checkpoints), run.n_checkpoints),
        Cell(nbytes_text(run.nbytes), run.nbytes),
        Cell("–" if run.saved_ns is None else time_text(run.saved_ns), run.saved_ns, "time"),
    ]


def _metric(value: float | None) -> Cell:
    if value is None:
        return Cell("–", None)
    return Cell(number_text(float(value)), value if math.isfinite(value) else None)

"""Values as people and programs read them."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import typer

from sucrose.config.plain_values import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def time_text(time_ns: int) -> str:
    """UTC to the second, in the form of ISO 8601."""
    return datetime.fromtimestamp(time_ns // 10**9, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def metric_value(value: float) -> float | str:
    """A number as JSON has it; it has none for NaN and infinities."""
    return value if math.isfinite(value) else str(value)


def tell(text: str) -> None:
    """One line on stdout."""
    typer.echo(printable(text))


def write_json(content: dict[str, Any]) -> None:
    """One object on stdout."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def metrics_text(metrics: Mapping[str, float | str], *, at_most: int | None = None) -> str:
    """Metrics in one cell of a table, and how many were left out of it."""
    shown = [f"{name}={float(value):.6g}" for name, value in list(metrics.items())[:at_most]]
    n_more = len(metrics) - len(shown)
    return " ".join([*shown, f"(and {n_more} more)"] if n_more else shown)


def show_table(rows: Sequence[Sequence[str]], *, to_the_right: Collection[str] = ()) -> None:
    """Whole lines, however narrow the terminal: what is cut off can neither be copied nor searched for.

    Args:
        rows: the first one is the head.
        to_the_right: columns, by what the head says, that numbers stand in.
    """
    head, *_ = rows
    escaped = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*escaped, strict=True)]
    for row in escaped:
        cells = [
            cell.rjust(width) if name in to_the_right else cell.ljust(width)
            for name, cell, width in zip(head, row, widths, strict=True)
        ]
        tell("  ".join(cells).rstrip())

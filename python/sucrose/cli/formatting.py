"""Values as people and programs read them."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def time_text(time_ns: int) -> str:
    """UTC to the second, in the form of ISO 8601."""
    return datetime.fromtimestamp(time_ns // 10**9, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def nbytes_text(nbytes: int) -> str:
    """Three or four digits and a unit."""
    value = float(nbytes)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{nbytes} B" if unit == "B" else f"{value:.1f} {unit}"


def metric_value(value: float) -> float | str:
    """A number as JSON has it; it has none for NaN and infinities."""
    return value if math.isfinite(value) else str(value)


def tell(text: str) -> None:
    """One line on stdout."""
    typer.echo(printable(text))


def printable(text: str) -> str:
    """The text with escapes for what would move a terminal's cursor, or cannot be encoded: names may be anything."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


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

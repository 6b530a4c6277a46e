"""Values as people and programs read them."""

from __future__ import annotations

import json
import math
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from unicodedata import combining, east_asian_width

import typer

from sucrose.config.plain_values import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


_MAX_WIDTH = 400
"""Of a column: cells that are longer stick out, and do not make every other line as long as they are."""


def time_text(time_ns: int) -> str:
    """UTC to the second, in the form of ISO 8601."""
    return datetime.fromtimestamp(time_ns // 10**9, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def metric_value(value: float) -> float | str:
    """A number as JSON has it; it has none for NaN and infinities."""
    return value if math.isfinite(value) else str(value)


def json_value(value: Any) -> Any:
    """A value of a checkpoint as JSON has it: bytes, complex numbers and what it has no numbers for become text."""
    if isinstance(value, float):
        return metric_value(value)
    if isinstance(value, (list, tuple)):
        return [json_value(part) for part in value]
    return value if value is None or isinstance(value, (bool, int, str)) else repr(value)


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
    widths = [min(_MAX_WIDTH, max(map(columns_of, column))) for column in zip(*escaped, strict=True)]
    for number, row in enumerate(escaped):
        cells = [
            " " * (width - columns_of(cell)) + cell if name in to_the_right else cell + " " * (width - columns_of(cell))
            for name, cell, width in zip(head, row, widths, strict=True)
        ]
        line = "  ".join(cells).rstrip()
        if number == 0 and sys.stdout.isatty():
            tell_head(line)
        else:
            tell(line)


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes: letters of some scripts take two, accents none.

    Example:
        >>> from sucrose.cli.formatting import columns_of
        >>> columns_of("重み"), columns_of("weight")
        (4, 6)
    """
    if text.isascii():
        return len(text)
    return sum(0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def tell_head(line: str) -> None:
    """The head of a table on a terminal: bold, unless the terminal or its user wants no such thing."""
    from rich.console import Console
    from rich.text import Text

    Console(highlight=False).print(Text(printable(line), style="bold"), soft_wrap=True)

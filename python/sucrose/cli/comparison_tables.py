"""A comparison as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sucrose.cli.formatting import metrics_text, show_table, tell, time_text
from sucrose.config import MISSING
from sucrose.config.plain_values import value_text
from sucrose.overview.text import nbytes_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sucrose.overview.comparing import Comparison, CurveRow, FieldRow
    from sucrose.overview.curves import Point
    from sucrose.scenarios.checkpoints import CheckpointInfo

_CURVE_HEAD = ("tag", "scenario", "last", "step", "lowest", "step", "highest", "step", "difference")
_CHECKPOINT_HEAD = ("scenario", "epoch", "steps", "size", "saved", "metrics", "state")
_NUMBERS = frozenset({"last", "step", "lowest", "highest", "difference", "epoch", "steps", "size"})


def show_comparison(comparison: Comparison, *, show_all: bool) -> None:
    """Three tables on stdout.

    Args:
        comparison: what to show.
        show_all: also fields in which the scenarios do not differ.
    """
    _show_config(comparison, show_all=show_all)
    tell("")
    _show_curves(comparison)
    tell("")
    _show_checkpoints(comparison)


def _show_config(comparison: Comparison, *, show_all: bool) -> None:
    rows = [row for row in comparison.config if show_all or row.differs]
    if rows:
        show_table([("field", *comparison.scenarios), *map(_config_row, rows)])
    n_same = sum(not row.differs for row in comparison.config)
    if not show_all:
        tell(f"{n_same} {'field is' if n_same == 1 else 'fields are'} the same")
    for name, problem in zip(comparison.scenarios, comparison.config_problems, strict=True):
        if problem is not None:
            tell(f"{name} has no configuration now: {' '.join(problem.split())}")


def _config_row(row: FieldRow) -> tuple[str, ...]:
    cells = []
    for now, saved, is_stored in zip(row.now, row.saved, row.is_stored, strict=True):
        told, stored = _text(now), _text(saved)
        cells.append(f"{told} (in its checkpoint {stored})" if is_stored and stored != told else told)
    return row.field, *cells


def _show_curves(comparison: Comparison) -> None:
    if comparison.curves_problem is not None:
        tell(f"no curves: {comparison.curves_problem}")
    elif not comparison.curves:
        tell("no curves were logged")
    else:
        rows = [cells for row in comparison.curves for cells in _curve_rows(row, comparison.scenarios)]
        show_table([_CURVE_HEAD, *rows], to_the_right=_NUMBERS)


def _curve_rows(row: CurveRow, scenarios: Sequence[str]) -> list[tuple[str, ...]]:
    rows = []
    for number, (name, curve, difference) in enumerate(zip(scenarios, row.curves, row.differences, strict=True)):
        points = (None, None, None) if curve is None else (curve.last, curve.lowest, curve.highest)
        shown = "" if number == 0 else "-" if difference is None else f"{difference:+.6g}"
        rows.append(
            (row.tag if number == 0 else "", name, *(cell for point in points for cell in _cells(point)), shown)
        )
    return rows


def _cells(point: Point | None) -> tuple[str, str]:
    return ("-", "-") if point is None else (f"{point.value:.6g}", str(point.step))


def _show_checkpoints(comparison: Comparison) -> None:
    rows = [
        _checkpoint_row(name, info)
        for name, infos in zip(comparison.scenarios, comparison.checkpoints, strict=True)
        for info in infos
    ]
    if rows:
        show_table([_CHECKPOINT_HEAD, *rows], to_the_right=_NUMBERS)
    for name, infos in zip(comparison.scenarios, comparison.checkpoints, strict=True):
        if not infos:
            tell(f"{name} has no checkpoints")


def _checkpoint_row(name: str, info: CheckpointInfo) -> tuple[str, ...]:
    record = info.record
    return (
        name,
        f"{info.epoch}+" if info.is_mid_epoch else str(info.epoch),
        "-" if record is None else str(record.step),
        nbytes_text(info.nbytes),
        time_text(info.saved_ns),
        metrics_text(record.metrics) if record is not None and record.metrics else "-",
        "complete" if info.problem is None else info.problem,
    )


def _text(value: Any) -> str:
    """A value of a field, as JSON tells "1" from 1; a dash where there is none."""
    return "-" if value is MISSING else value_text(value)

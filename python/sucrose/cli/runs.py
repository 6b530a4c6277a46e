"""`sucrose runs`: the scenarios of a workspace, how far they have come, and whether they would go on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.cli.formatting import metric_value, metrics_text, show_table, tell, time_text, write_json
from sucrose.overview.runs import collect_runs
from sucrose.overview.text import nbytes_text
from sucrose.scenarios.workspace import Workspace

if TYPE_CHECKING:
    from sucrose.overview.runs import RunSummary

_HEAD = ("scenario", "epochs", "steps", "metrics", "size", "saved", "overrides", "resumable")
_TO_THE_RIGHT = ("epochs", "steps", "size")
_SHOWN_METRICS = 6
_SORTS: dict[str, Callable[[RunSummary], Any]] = {
    "scenario": lambda run: run.scenario,
    "epochs": lambda run: run.epochs,
    "steps": lambda run: run.steps,
    "size": lambda run: run.nbytes,
    "saved": lambda run: run.saved_ns,
    "started": lambda run: run.started_ns,
}


def runs(
    work_dir: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Folder with the config.yaml.")],
    sort: Annotated[
        str, typer.Option(help=f"What to sort by: {', '.join(_SORTS)}, or the name of a metric.", metavar="KEY")
    ] = "scenario",
    reverse: Annotated[bool, typer.Option("--reverse", help="The largest first.")] = False,
    read_steps: Annotated[
        bool, typer.Option("--read-steps", help="Also look into checkpoints that torch.save has written (slower).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Lists scenarios: epochs, steps, last metrics, size on the disk, when, and whether a start would go on."""
    workspace = Workspace.open(work_dir, needs_config=False)
    found = collect_runs(workspace, read_steps=read_steps)
    if not found and not os.path.exists(workspace.config.path):
        raise FileNotFoundError(errno.ENOENT, "no config.yaml, and no checkpoints or logs either", workspace.work_dir)
    ordered = _sorted(found, sort, reverse=reverse)
    if as_json:
        write_json({"work_dir": workspace.work_dir, "runs": [_content(run) for run in ordered]})
    elif ordered:
        _show(ordered, sort)
    else:
        tell("no scenarios")


def _sorted(found: list[RunSummary], sort: str, *, reverse: bool) -> list[RunSummary]:
    """What a run lacks comes last in either direction."""

    def metric(run: RunSummary) -> Any:
        return run.metrics.get(sort)

    key = _SORTS.get(sort, metric)
    if sort not in _SORTS:
        metrics = sorted({metric for run in found for metric in run.metrics})
        if sort not in metrics:
            raise typer.BadParameter(f"{sort!r}: expected one of {', '.join([*_SORTS, *metrics])}", param_hint="--sort")
    having = [run for run in found if not _is_missing(key(run))]
    lacking = [run for run in found if _is_missing(key(run))]
    return sorted(having, key=key, reverse=reverse) + lacking


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN has no place in an order


def _content(run: RunSummary) -> dict[str, Any]:
    return {
        "scenario": run.scenario,
        "epochs": run.epochs,
        "steps": run.steps,
        "metrics": {name: metric_value(value) for name, value in run.metrics.items()},
        "n_checkpoints": run.n_checkpoints,
        "checkpoints_nbytes": run.checkpoints_nbytes,
        "logs_nbytes": run.logs_nbytes,
        "nbytes": run.nbytes,
        "saved": None if run.saved_ns is None else time_text(run.saved_ns),
        "saved_ns": run.saved_ns,
        "started": None if run.started_ns is None else time_text(run.started_ns),
        "started_ns": run.started_ns,
        "is_running": run.is_running,
        "resumable": run.resumable,
        "reason": run.reason,
        "overrides": list(run.overrides),
        "n_config_differences": run.n_config_differences,
    }


def _show(found: list[RunSummary], sort: str) -> None:
    rows = [_HEAD, *(_row(run, sort) for run in found)]
    if not any(run.overrides for run in found):
        at = _HEAD.index("overrides")
        rows = [(*row[:at], *row[at + 1 :]) for row in rows]
    show_table(rows, to_the_right=_TO_THE_RIGHT)


def _row(run: RunSummary, sort: str) -> tuple[str, ...]:
    answer = "running" if run.is_running else "yes" if run.resumable else "no"
    metrics = dict(sorted(run.metrics.items(), key=lambda metric: metric[0] != sort))  # stable
    return (
        run.scenario,
        str(run.epochs),
        "-" if run.steps is None else str(run.steps),
        metrics_text(metrics, at_most=_SHOWN_METRICS) or "-",
        nbytes_text(run.nbytes),
        "-" if run.saved_ns is None else time_text(run.saved_ns),
        " ".join(run.overrides) or "-",
        f"{answer}: {' '.join(run.reason.split())}" if run.reason else answer,
    )

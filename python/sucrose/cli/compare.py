"""`sucrose compare`: scenarios side by side."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sucrose.cli.comparison_tables import show_comparison
from sucrose.cli.formatting import metric_value, time_text, write_json
from sucrose.config import MISSING
from sucrose.config.plain_values import plain
from sucrose.overview.comparing import compare as compare_scenarios
from sucrose.overview.scenario_names import workspace_above
from sucrose.post.scenario_plot import plot_scenarios
from sucrose.scenarios.workspace import Workspace

if TYPE_CHECKING:
    from sucrose.overview.comparing import Comparison
    from sucrose.overview.curves import Curve, Point
    from sucrose.scenarios.checkpoints import CheckpointInfo


def compare(
    scenarios: Annotated[list[str], typer.Argument(metavar="SCENARIO...", help="Two or more, such as base/case1.")],
    work_dir: Annotated[
        str | None,
        typer.Option(
            "--workspace", "-w", metavar="WORKSPACE", help="Folder with the config.yaml; else found from here upwards."
        ),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also fields in which they do not differ.")] = False,
    plot: Annotated[str | None, typer.Option(metavar="FILE", help="Draw the curves, as .png or .svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compares configurations, curves and checkpoints of scenarios; differences are to the first one."""
    first, *others = scenarios
    if not others:
        raise typer.BadParameter(f"only {first!r} is given: there is nothing to compare it with", param_hint="SCENARIO")
    workspace = Workspace.open(workspace_above(os.curdir) if work_dir is None else work_dir, needs_config=False)
    comparison = compare_scenarios(workspace, first, *others)
    if plot is not None:
        plot_scenarios(workspace, plot, comparison.scenarios)
    if as_json:
        write_json(_content(workspace, comparison))
    else:
        show_comparison(comparison, show_all=show_all)


def _content(workspace: Workspace, comparison: Comparison) -> dict[str, Any]:
    return {
        "work_dir": workspace.work_dir,
        "scenarios": list(comparison.scenarios),
        "config": [
            {
                "field": row.field,
                "now": [_json_value(value) for value in row.now],
                "saved": [_json_value(value) for value in row.saved],
                "differs": row.differs,
            }
            for row in comparison.config
        ],
        "config_problems": list(comparison.config_problems),
        "curves": [
            {
                "tag": row.tag,
                "curves": [None if curve is None else _curve_content(curve) for curve in row.curves],
                "differences": [None if value is None else metric_value(value) for value in row.differences],
            }
            for row in comparison.curves
        ],
        "curves_problem": comparison.curves_problem,
        "checkpoints": [[_checkpoint_content(info) for info in infos] for infos in comparison.checkpoints],
    }


def _json_value(value: Any) -> dict[str, Any]:
    """An object, so that a field that is missing can be told from one that is null."""
    return {} if value is MISSING else {"value": plain(value)}


def _curve_content(curve: Curve) -> dict[str, Any]:
    def content(point: Point | None) -> dict[str, Any] | None:
        return None if point is None else {"step": point.step, "value": metric_value(point.value)}

    return {
        "n_points": curve.n_points,
        "last": content(curve.last),
        "lowest": content(curve.lowest),
        "highest": content(curve.highest),
    }


def _checkpoint_content(info: CheckpointInfo) -> dict[str, Any]:
    record = info.record
    return {
        "epoch": info.epoch,
        "is_mid_epoch": info.is_mid_epoch,
        "path": info.path,
        "steps": None if record is None else record.step,
        "nbytes": info.nbytes,
        "saved": time_text(info.saved_ns),
        "saved_ns": info.saved_ns,
        "metrics": {} if record is None else {name: metric_value(value) for name, value in record.metrics.items()},
        "overrides": [] if record is None else list(record.overrides),
        "problem": info.problem,
    }

"""`sucrose plot`: the curves of scenarios as an image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from sucrose.cli.formatting import tell, write_json
from sucrose.post.scenario_plot import plot_scenarios
from sucrose.scenarios.workspace import Workspace

if TYPE_CHECKING:
    from sucrose.post.panels import XAxis
    from sucrose.post.scale import LogScale

_LOG_SCALES: dict[str, bool | Literal["auto", "x", "both"]] = {
    "auto": "auto",
    "yes": True,
    "no": False,
    "x": "x",
    "y": True,
    "both": "both",
}


def plot(
    work_dir: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Folder with the config.yaml.")],
    scenarios: Annotated[
        list[str] | None, typer.Argument(metavar="[SCENARIO]...", help="Names or patterns; else all that have logs.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Name or pattern; may be repeated.")] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="A .png, .svg or .pdf; else WORKSPACE's name with .png, here."
        ),
    ] = None,
    smoothing: Annotated[
        float, typer.Option(metavar="WEIGHT", help="Of TensorBoard's moving average, from 0 to below 1.")
    ] = 0.0,
    log_scale: Annotated[str, typer.Option(metavar="WHICH", help=f"{', '.join(_LOG_SCALES)}.")] = "auto",
    x: Annotated[str, typer.Option("--x", metavar="WHAT", help="step, or time since a run's first point.")] = "step",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Draws logged scalars: a panel for each tag, in it a line for each scenario, attempts joined."""
    if log_scale not in _LOG_SCALES:
        raise typer.BadParameter(f"{log_scale!r}: expected one of {', '.join(_LOG_SCALES)}", param_hint="--log-scale")
    if x not in ("step", "time"):
        raise typer.BadParameter(f"{x!r}: expected step or time", param_hint="--x")
    workspace = Workspace.open(work_dir, needs_config=False)
    path = output or f"{os.path.basename(workspace.work_dir) or 'workspace'}.png"
    panels = plot_scenarios(
        workspace,
        path,
        scenarios or None,
        tag or None,
        smoothing=smoothing,
        log_scale=cast("LogScale", _LOG_SCALES[log_scale]),
        x=cast("XAxis", x),
    )
    if as_json:
        content: dict[str, Any] = {
            "output": os.path.abspath(path),
            "panels": [{"tag": panel.tag, "n_points": dict(panel.n_points)} for panel in panels],
        }
        write_json(content)
    else:
        runs = {run for panel in panels for run in panel.n_points}
        tell(f"{path}: {_count(len(runs), 'run')}, {_count(len(panels), 'tag')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"

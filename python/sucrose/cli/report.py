"""`sucrose report`: a workspace as one HTML file."""

from __future__ import annotations

import errno
import os
from typing import Annotated

import typer

from sucrose.cli.formatting import tell, write_json
from sucrose.overview.text import nbytes_text
from sucrose.scenarios.workspace import Workspace


def report(
    work_dir: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Folder with the config.yaml.")],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Else WORKSPACE's name with .html, here."),
    ] = None,
    smoothing: Annotated[
        float, typer.Option(metavar="WEIGHT", help="Of TensorBoard's moving average, from 0 to below 1.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Writes configurations, runs, curves and checkpoints into one HTML file that needs nothing else."""
    from sucrose.overview.report import write_report  # with NumPy and tensorboard, which no other command needs

    workspace = Workspace.open(work_dir, needs_config=False)
    if not os.path.exists(workspace.config.path) and not workspace.scenario_names():
        raise FileNotFoundError(errno.ENOENT, "no config.yaml, and no checkpoints or logs either", workspace.work_dir)
    path = output or f"{os.path.basename(workspace.work_dir) or 'workspace'}.html"
    write_report(workspace, path, smoothing=smoothing)
    nbytes = os.path.getsize(path)
    if as_json:
        write_json({"output": os.path.abspath(path), "nbytes": nbytes})
    else:
        tell(f"{path}: {nbytes_text(nbytes)}")

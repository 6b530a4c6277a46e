"""A workspace as one HTML file that needs nothing else: no network, no other file, no script to be read.

Whatever comes from the workspace is hostile: names, values and tags may be anything. The template
escapes all of it, data for the script are JSON without any `<`, and a content security policy lets nothing run but
the script of this package, and nothing be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import datetime, timezone
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sucrose.overview.report_config import config_tree
from sucrose.overview.report_curves import Curves, draw_curves
from sucrose.overview.report_runs import runs_table
from sucrose.overview.report_sizes import collect_checkpoints, size_rows
from sucrose.overview.runs import collect_runs
from sucrose.overview.text import nbytes_text, number_text
from sucrose.post.palette import COLOURS
from sucrose.post.replacing import replacing
from sucrose.post.scalars import read_scalars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sucrose.scenarios.workspace import Workspace

_DARK_COLOURS = ("#5AA9E6", "#F28C5A", "#3CC79A", "#E39BC5", "#F0B840", "#9AD3F5")  # the same hues on a dark ground


def write_report(workspace: Workspace, path: str, *, smoothing: float = 0.0) -> None:
    """Writes configurations, runs, curves and checkpoints of a workspace as one HTML file.

    Args:
        workspace: that it is about.
        path: of the file; an old one is replaced at once.
        smoothing: of the curves, as for `plot_evolution`.

    Raises:
        ConfigError: `smoothing` is not allowed.
        OSError: something cannot be read, or the file not be written.

    Example:
        >>> import os, tempfile
        >>> from sucrose.scenarios.workspace import Workspace
        >>> work_dir = tempfile.mkdtemp()
        >>> with open(os.path.join(work_dir, "config.yaml"), "w") as file:
        ...     _ = file.write("base: {optim.lr: 0.1}")
        >>> path = os.path.join(work_dir, "report.html")
        >>> write_report(Workspace.open(work_dir), path)
        >>> "optim.lr" in open(path).read()
        True
    """
    html = render_report(workspace, smoothing=smoothing)
    with replacing(path) as temporary, open(temporary, "xb") as file:
        file.write(html.encode(errors="replace"))  # file names that are not UTF-8 have no other form in HTML


def render_report(workspace: Workspace, *, smoothing: float = 0.0) -> str:
    """The HTML."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    runs = collect_runs(workspace)
    checkpoints = collect_checkpoints(workspace)
    curves = _curves(workspace, smoothing)
    script, style = _template("report.js"), _template("report.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["nbytes"] = nbytes_text
    environment.filters["number"] = number_text
    content: Mapping[str, Any] = {
        "name": os.path.basename(workspace.work_dir) or workspace.work_dir,
        "work_dir": workspace.work_dir,
        "written": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "runs": runs_table(runs),
        "n_checkpoints": sum(map(len, checkpoints.values())),
        "nbytes": sum(run.nbytes for run in runs),
        "curves": curves,
        "smoothing": smoothing,
        "sizes": size_rows(checkpoints),
        "domains": config_tree(workspace, checkpoints),
        "colours": list(zip(COLOURS, _DARK_COLOURS, strict=True)),
        # Safe: files of this package.
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return environment.from_string(_template("report.html.jinja")).render(content)


def _curves(workspace: Workspace, smoothing: float) -> Curves:
    logs_dir = os.path.join(workspace.work_dir, workspace.logs_folder)
    return draw_curves(read_scalars(logs_dir), smoothing)


def _template(name: str) -> str:
    return files("sucrose.overview").joinpath("templates").joinpath(name).read_text(encoding="utf-8")

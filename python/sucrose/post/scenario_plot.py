"""An image of what scenarios have logged."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from typing import TYPE_CHECKING

from sucrose.errors import ConfigError
from sucrose.post.choosing import check_all_found, name_filter
from sucrose.post.extra import require
from sucrose.post.image_file import image_format, write_image
from sucrose.post.run_folders import find_runs

if TYPE_CHECKING:
    from sucrose.post.panels import XAxis
    from sucrose.post.scale import LogScale
    from sucrose.scenarios.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What one panel of an image shows.

    Attributes:
        tag: of its curves.
        n_points: that each run has logged.
    """

    tag: str
    n_points: Mapping[str, int] = field(hash=False)


def plot_scenarios(
    workspace: Workspace,
    path: str,
    scenarios: Sequence[str] | None = None,
    tags: Sequence[str] | None = None,
    *,
    smoothing: float = 0.0,
    log_scale: LogScale = "auto",
    x: XAxis = "step",
) -> list[Panel]:
    """Writes an image with a panel for each tag, and in it a line for each run of the scenarios, attempts joined.

    Args:
        workspace: that they belong to.
        path: of the image, with the extension .png, .svg or .pdf; an old one is replaced at once.
        scenarios: names or shell patterns; None for all that have logs.
        tags: likewise.
        smoothing: as for `plot_evolution`.
        log_scale: likewise.
        x: "step" or "time".

    Returns:
        What is to be seen.

    Raises:
        ConfigError: a scenario or a tag is not there, nothing was logged, or an option has a wrong value.
        ImportError: matplotlib or pandas are not installed.
        OSError: something cannot be read or written.
    """
    image_format(path)
    require("matplotlib")
    require("pandas")
    from sucrose.post.log_data_frame import data_frame
    from sucrose.post.panels import draw_panels
    from sucrose.post.scalars import read_scalars

    logs_dir = os.path.join(workspace.work_dir, workspace.logs_folder)
    scalars = read_scalars(logs_dir, runs_of(workspace, logs_dir, scenarios), tags)
    if not scalars:
        asked = "" if scenarios is None else f" of {', '.join(map(repr, scenarios))}"
        raise ConfigError(f"{logs_dir} has no scalars{asked}: nothing to draw", path=logs_dir)
    title = os.path.basename(workspace.work_dir)
    figure = draw_panels(data_frame(scalars), title=title, smoothing=smoothing, log_scale=log_scale, x=x)
    write_image(figure, path)
    shown: dict[str, dict[str, int]] = {}
    for (run, tag), series in scalars.items():
        shown.setdefault(tag, {})[run] = len(series)
    return [Panel(tag=tag, n_points=shown[tag]) for tag in sorted(shown)]


def runs_of(workspace: Workspace, logs_dir: str, scenarios: Sequence[str] | None) -> list[str] | None:
    """A pattern for each run that scenarios have: their own ones, and what `add_scalars` has made below them.

    Raises:
        ConfigError: there is no such scenario.
    """
    if scenarios is None:
        return None
    names = workspace.scenario_names()
    check_all_found("scenario", scenarios, names, workspace.work_dir)
    is_wanted = name_filter(scenarios)
    return [escape(run.name) for run in find_runs(logs_dir) if is_wanted(scenario_of(run.name, names) or "")]


def scenario_of(run: str, names: Collection[str]) -> str | None:
    """Which of the scenarios a run belongs to; None where to none.

    Example:
        >>> scenario_of("base/case1/loss_train", {"base", "base/case1"})
        'base/case1'
    """
    while run not in names:
        run, separator, _ = run.rpartition("/")
        if not separator:
            return None
    return run

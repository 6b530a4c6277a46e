"""Which scenario, and which workspace, somebody means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sucrose.config.suggestions import nearest
from sucrose.errors import ConfigError

if TYPE_CHECKING:
    from sucrose.scenarios.workspace import Workspace


def known_scenario(workspace: Workspace, name: str) -> str:
    """The name, where the workspace has such a scenario.

    Raises:
        ConfigError: it has none; names the nearest one.
    """
    names = workspace.scenario_names()
    if name in names:
        return name
    near = nearest(name, names)
    if near is not None:
        hint = f"did you mean {near!r}?"
    else:
        hint = f"there are {', '.join(map(repr, names))}" if names else "there is none at all"
    raise ConfigError(
        f"{workspace.work_dir} has no scenario {name!r}, neither a domain of {os.path.basename(workspace.config.path)} "
        f"nor checkpoints or logs; {hint}",
        path=workspace.work_dir,
    )


def workspace_above(folder: str) -> str:
    """The nearest folder, from this one upwards, with a ``config.yaml``.

    Raises:
        ConfigError: there is none.
    """
    start = os.path.abspath(folder)
    here = start
    while not os.path.isfile(os.path.join(here, "config.yaml")):
        above = os.path.dirname(here)
        if above == here:
            raise ConfigError(
                f"no config.yaml in {start} or in a folder above it: go to the workspace, or name it with --workspace",
                path=start,
            )
        here = above
    return here

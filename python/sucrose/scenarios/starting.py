"""The start of a scenario: which one it is, and what the ranks of a job agree on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from sucrose.config import SCENARIO
from sucrose.config.names import WORKSPACE
from sucrose.config.suggestions import nearest
from sucrose.scenarios.ranks import agree_on, number_of_rank_0

if TYPE_CHECKING:
    from sucrose.config import Config, ConfigFile
    from sucrose.ranks import Exchange
    from sucrose.scenarios.checkpoint_names import CheckpointNames
    from sucrose.scenarios.workspace import Workspace

logger = logging.getLogger(__name__)

_MANY_EPOCHS = 10**9
_MAX_FILE_NAME_NBYTES = 255


def agree_on_start(exchange: Exchange, workspace: Workspace, config: Config, close_earlier: Callable[[], None]) -> int:
    """The number of epochs that are finished, as rank 0 finds it, once all ranks start the same scenario.

    The same is: what the files say before references are resolved, so that ``${env:LOCAL_RANK}`` may stand for another
    value on each rank, and the overrides.

    Args:
        exchange: the start.
        workspace: as this rank has read it.
        config: likewise.
        close_earlier: ends an earlier object of this process for the same scenario, on all ranks.

    Raises:
        RankError: a rank starts another scenario than rank 0, or the same with other fields.
    """
    said: dict[str, object] = {"the scenario": config.name, "its folder": workspace.ckpts_dir(config.name)}
    for domain in (*config.domains, WORKSPACE):
        for field, written in workspace.config.domains.get(domain, {}).items():
            said[f"{field} of {domain!r} in config.yaml"] = repr(written.value)
    said["overrides"] = " ".join(config.overrides)
    agree_on(exchange, said)
    close_earlier()
    newest = workspace.checkpoint_names(config.name).newest() if exchange.rank == 0 else 0
    return number_of_rank_0(exchange, "finished epochs", newest)


def tell_of_missing_domain(config: ConfigFile, name: str) -> None:
    """A scenario may live on its parents' fields, as each run of a sweep does; or its name is misspelt."""
    if name in config.domains:
        return
    parent, _, last = name.rpartition("/")
    siblings = [domain.removeprefix(f"{parent}/") for domain in config.domains if domain.rpartition("/")[0] == parent]
    near = nearest(last, siblings)
    if near is None:
        logger.info("%s has no domain %r: its fields are those of %r", config.path, name, parent)
    else:
        hint = f"{parent}/{near}"
        logger.warning(
            "%s has no domain %r, the fields are those of %r; did you mean %r?", config.path, name, parent, hint
        )


def check_length(names: CheckpointNames, name: str) -> None:
    """Now, and not once the first epoch is over."""
    longest = os.fsencode(os.path.basename(names.mid_path_of(_MANY_EPOCHS)))
    if len(longest) > _MAX_FILE_NAME_NBYTES:
        raise ValueError(
            f"the name {name!r} is too long: names of its checkpoints would have {len(longest)} bytes, and file "
            f"systems take {_MAX_FILE_NAME_NBYTES}"
        )


def chosen_name(name: str | None) -> str:
    """The one of ``sucrose run``, or what the program says."""
    asked = os.environ.get(SCENARIO)
    if asked and asked != name:
        if name is not None:
            logger.info("scenario %r instead of %r, as SUCROSE_SCENARIO says", asked, name)
        return asked
    if name is None:
        raise TypeError("which scenario? Name one, or run the program by `sucrose run PROGRAM SCENARIO`")
    return name

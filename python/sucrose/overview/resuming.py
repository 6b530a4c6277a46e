"""Whether a scenario would go on if it was started again: the newest checkpoint that is sound decides."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sucrose.catalog.soundness import damage_of
from sucrose.config import Config, differences
from sucrose.errors import ConfigError, SucroseError
from sucrose.scenarios.checkpoints.inspection import inspect

if TYPE_CHECKING:
    from sucrose.config import Difference
    from sucrose.scenarios.checkpoints import CheckpointInfo
    from sucrose.scenarios.workspace import Workspace

_SHOWN_DIFFERENCES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """What a start would find.

    Attributes:
        checkpoint: that it would begin with; None where no one is usable.
        resumable: whether it would go on.
        reason: why not, or what is worth knowing before; empty where there is nothing to say.
        n_differences: how many fields of the configuration are others than in the checkpoint, with the overrides
            that the checkpoint was made with; None where that is unknown.
    """

    checkpoint: CheckpointInfo | None
    resumable: bool
    reason: str
    n_differences: int | None


def resumption_of(
    workspace: Workspace, name: str, newest_first: Iterable[CheckpointInfo | None], *, has_logs: bool
) -> Resumption:
    """Looks for the checkpoint as a start does, without moving what is damaged.

    Args:
        workspace: of the scenario.
        name: of the scenario.
        newest_first: its checkpoints, None for those that are gone. Of a lazy iterable no more is asked than is needed.
        has_logs: whether it has been started, as far as logs tell.
    """
    damages: list[str] = []
    for checkpoint in newest_first:
        if checkpoint is None:
            continue
        if checkpoint.problem is None:
            return _from(workspace, name, checkpoint, damages)
        damages.append(_damage(checkpoint.path, checkpoint.problem))
        if not _is_passed_over(workspace, name, checkpoint.path):
            break
    reasons = damages or ["no checkpoint yet" if has_logs else "not started"]
    problem = _config_problem(workspace, name)
    if problem is not None:
        reasons.append(problem)
    return Resumption(checkpoint=None, resumable=False, reason="; ".join(reasons), n_differences=None)


def _is_passed_over(workspace: Workspace, name: str, path: str) -> bool:
    """Whether a start takes the one before: not where rights are missing, or a newer release wrote the checkpoint."""
    try:
        inspect(path, is_snapshot=workspace.checkpoint_names(name).are_snapshots)
    except (SucroseError, OSError) as error:
        return damage_of(error, path) is not None
    return True


def _damage(path: str, problem: str) -> str:
    """The problem, with the name of the checkpoint in place of its path."""
    file_name = os.path.basename(path)
    told = problem.replace(path, file_name).rstrip(".")
    return told if file_name in told else f"{file_name}: {told}"


def _from(workspace: Workspace, name: str, checkpoint: CheckpointInfo, damages: list[str]) -> Resumption:
    notes = list(damages)
    if checkpoint.is_mid_epoch:
        notes.append(f"resumes in the middle of epoch {checkpoint.epoch + 1}")
    elif damages:
        notes.append(f"resumes after epoch {checkpoint.epoch}")
    record = checkpoint.record
    try:
        config = Config(workspace.config, name, () if record is None else record.overrides).resolved()
    except ConfigError as error:
        return Resumption(checkpoint=checkpoint, resumable=False, reason=str(error), n_differences=None)
    if record is None:
        return Resumption(checkpoint=checkpoint, resumable=True, reason="; ".join(notes), n_differences=None)
    changed = differences(record.config, config)
    is_refused = bool(changed) and workspace.on_config_change == "refuse"
    if changed and workspace.on_config_change != "ignore":
        notes.insert(0, f"config {'refuses' if is_refused else 'differs in'} {_shown(changed)}")
    return Resumption(
        checkpoint=checkpoint, resumable=not is_refused, reason="; ".join(notes), n_differences=len(changed)
    )


def _config_problem(workspace: Workspace, name: str) -> str | None:
    try:
        Config(workspace.config, name).resolved()
    except ConfigError as error:
        return str(error)
    return None


def _shown(changed: list[Difference]) -> str:
    shown = ", ".join(map(str, changed[:_SHOWN_DIFFERENCES]))
    more = len(changed) - _SHOWN_DIFFERENCES
    return f"{shown}, and {more} more" if more > 0 else shown

"""All scenarios of a workspace with what can be told of each without reading a tensor."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sucrose.overview.disk_use import disk_use
from sucrose.overview.last_values import last_values
from sucrose.overview.resuming import resumption_of
from sucrose.overview.running import is_locked, locked_inodes
from sucrose.scenarios.checkpoints.listing import checkpoint_at, in_order, path_at

if TYPE_CHECKING:
    from sucrose.scenarios.checkpoints import CheckpointInfo
    from sucrose.scenarios.workspace import Workspace

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One scenario at one moment. What belongs to a checkpoint is that of the newest one that is usable.

    Attributes:
        scenario: its name.
        epochs: that are finished; 0 where there is no checkpoint.
        steps: that were made; None where the checkpoint does not tell.
        metrics: the newest, of the checkpoint; where it has none, the last scalars in the logs.
        n_checkpoints: how many lie in the folder, those in the middle of an epoch included.
        checkpoints_nbytes: of these.
        logs_nbytes: of the logs, without superseded attempts.
        nbytes: of everything on the disk, with what was set aside or put into quarantine.
        saved_ns: when the checkpoint was written, in nanoseconds since 1970; None where there is none.
        started_ns: when the first log was begun; None where there is none.
        is_running: whether a program of this machine is writing its logs; false where that cannot be seen.
        resumable: whether a start goes on from a checkpoint.
        reason: why not, or what is worth knowing before; empty where there is nothing to say.
        overrides: in force when the checkpoint was written, as "field=value".
        n_config_differences: how many fields are others now than they were then; None where that is unknown.
    """

    scenario: str
    epochs: int
    steps: int | None
    metrics: Mapping[str, float] = field(hash=False)
    n_checkpoints: int
    checkpoints_nbytes: int
    logs_nbytes: int
    nbytes: int
    saved_ns: int | None
    started_ns: int | None
    is_running: bool
    resumable: bool
    reason: str
    overrides: tuple[str, ...]
    n_config_differences: int | None


def collect_runs(workspace: Workspace, *, read_steps: bool = False) -> list[RunSummary]:
    """Looks at every scenario that has a domain, checkpoints or logs. Changes nothing.

    Args:
        workspace: that they belong to.
        read_steps: also open checkpoints that `torch.save` has written, which have no record of their steps. Imports
            torch.

    Returns:
        One summary per scenario, sorted by name.

    Example:
        >>> import os, tempfile
        >>> from sucrose.scenarios.workspace import Workspace
        >>> work_dir = tempfile.mkdtemp()
        >>> with open(os.path.join(work_dir, "config.yaml"), "w") as file:
        ...     _ = file.write("base: {lr: 0.1}")
        >>> [(run.scenario, run.resumable, run.reason) for run in collect_runs(Workspace.open(work_dir))]
        [('base', False, 'not started')]
    """
    names = workspace.scenario_names()
    folders = {folder for name in names for folder in (workspace.ckpts_dir(name), workspace.logs_dir(name))}
    locked = locked_inodes()
    return [_summary(workspace, name, folders, locked, read_steps=read_steps) for name in names]


def _summary(
    workspace: Workspace,
    name: str,
    folders: Collection[str],
    locked: frozenset[tuple[int, int, int]],
    *,
    read_steps: bool,
) -> RunSummary:
    names = workspace.checkpoint_names(name)
    try:
        order, problem = in_order(names), ""
    except OSError as error:  # of others, perhaps, who let nobody read it
        order, problem = [], f"its checkpoints cannot be read: {error}"
    newest_first = (checkpoint_at(names, epoch, is_mid_epoch=is_mid) for epoch, is_mid in reversed(order))
    file_names = {os.path.basename(path_at(names, epoch, is_mid_epoch=is_mid)) for epoch, is_mid in order}
    use = disk_use(workspace.ckpts_dir(name), workspace.logs_dir(name), file_names, folders)
    resumption = resumption_of(workspace, name, newest_first, has_logs=use.logs_nbytes > 0)
    newest = resumption.checkpoint
    record = None if newest is None else newest.record
    metrics = {} if record is None else dict(record.metrics)
    if not metrics and use.logs_nbytes:
        metrics = dict(last_values(workspace.logs_dir(name), folders))
    return RunSummary(
        scenario=name,
        epochs=0 if newest is None else newest.epoch,
        steps=_steps(newest, workspace.step_key, read_steps=read_steps),
        metrics=metrics,
        n_checkpoints=len(order),
        checkpoints_nbytes=use.checkpoints_nbytes,
        logs_nbytes=use.logs_nbytes,
        nbytes=use.nbytes,
        saved_ns=None if newest is None else newest.saved_ns,
        started_ns=use.first_log_ns,
        is_running=is_locked(workspace.logs_dir(name), locked),
        resumable=resumption.resumable,
        reason=problem or resumption.reason,
        overrides=() if record is None else record.overrides,
        n_config_differences=resumption.n_differences,
    )


def _steps(checkpoint: CheckpointInfo | None, step_key: str, *, read_steps: bool) -> int | None:
    if checkpoint is None:
        return None
    if checkpoint.record is not None:
        return checkpoint.record.step
    return _read_step(checkpoint.path, step_key) if read_steps and os.path.isfile(checkpoint.path) else None


def _read_step(path: str, step_key: str) -> int | None:
    """What `torch.save` has written under `step_key`; None where nothing is, or where only unpickling would tell.

    Imports torch. Tensors are not read: a file of any size takes moments.
    """
    from sucrose.snapshot.single_file import load

    try:
        contents = load(path, map_location="meta")
    except Exception as error:  # noqa: BLE001  # torch raises anything, and one strange file must not hide the others
        logger.info("%s does not tell its step: %s", path, error)
        return None
    step = contents.get(step_key) if isinstance(contents, Mapping) else None
    return step if isinstance(step, int) and not isinstance(step, bool) else None

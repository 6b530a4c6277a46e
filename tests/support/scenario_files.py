"""Workspaces with runs in them, made by hand: without a scenario that would keep other files, or write other times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from sucrose import Retention
from sucrose.scenarios.checkpoints import CheckpointFolder
from sucrose.scenarios.record import Record
from sucrose.scenarios.workspace import Workspace

CONFIG = """\
base: {optim.lr: 0.1, model.dim: 8}
base/case1: {optim.lr: 0.01}
base/case2: {model.dim: 16}
"""
FIELDS = {
    "base": {"optim.lr": 0.1, "model.dim": 8},
    "base/case1": {"optim.lr": 0.01, "model.dim": 8},
    "base/case2": {"optim.lr": 0.1, "model.dim": 16},
}


def make_workspace(folder: Path, config: str = CONFIG) -> Workspace:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(config)
    return Workspace.open(folder)


def save(
    workspace: Workspace,
    name: str,
    epoch: int,
    *,
    is_mid_epoch: bool = False,
    config: dict[str, Any] | None = None,
    overrides: tuple[str, ...] = (),
    metrics: dict[str, float] | None = None,
) -> Path:
    """A checkpoint after `epoch` epochs of 100 steps, saved at a time that is easy to recognise."""
    names = workspace.checkpoint_names(name)
    record = Record(
        epoch=epoch,
        step=100 * epoch + (50 if is_mid_epoch else 0),
        is_mid_epoch=is_mid_epoch,
        saved_ns=saved_ns(epoch),
        config=FIELDS[name] if config is None else config,
        overrides=overrides,
        metrics=metrics or {},
        logs={},
    )
    Path(names.folder).mkdir(parents=True, exist_ok=True)
    folder = CheckpointFolder(names, Retention())
    folder.write({"model": torch.full((1000,), float(epoch)), "step": record.step}, record)
    folder.wait()
    return Path(names.mid_path_of(epoch) if is_mid_epoch else names.path_of(epoch))


def saved_ns(epoch: int) -> int:
    return (1_700_000_000 + 3600 * epoch) * 10**9


def log(workspace: Workspace, name: str, tag: str, points: dict[int, float]) -> Path:
    """One attempt's curve, in an event file of its own."""
    folder = Path(workspace.logs_dir(name))
    before = set(folder.glob("*tfevents*"))
    with SummaryWriter(folder) as writer:
        for step, value in points.items():
            writer.add_scalar(tag, value, step)
    (path,) = set(folder.glob("*tfevents*")) - before
    return path

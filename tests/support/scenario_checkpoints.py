"""Small checkpoints for tests, each recognizable by its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sucrose.scenarios.checkpoint_names import CheckpointNames
from sucrose.scenarios.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def names_in(folder: Path, extension: str = ".pt") -> CheckpointNames:
    """Those of the scenario ``base/case1``."""
    return CheckpointNames(str(folder), "base_case1", "e", extension)


def record_of(
    epoch: int, *, is_mid_epoch: bool = False, metrics: Mapping[str, float] | None = None, saved_ns: int = 0
) -> Record:
    """A record with a bit of everything."""
    return Record(
        epoch=epoch,
        step=epoch * 100,
        is_mid_epoch=is_mid_epoch,
        saved_ns=saved_ns,
        config={"optim.lr": 1e-3, "model.layers": [1, 2, {"kind": "é"}], "data.path": None},
        overrides=("optim.lr=1e-3",),
        metrics=metrics or {},
        logs={"": 4096},
    )


def contents_of(value: float, numel: int = 100) -> dict[str, Any]:
    """A tensor full of `value`, and the value."""
    return {"model": {"weight": torch.full((numel,), float(value))}, "value": float(value)}


def value_of(contents: Mapping[str, Any]) -> float:
    """What `contents_of` was given; the tensor says the same, all of it."""
    value = contents["value"]
    assert contents["model"]["weight"].eq(value).all()
    return float(value)

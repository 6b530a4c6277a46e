"""``torch.distributed.checkpoint`` in a single process."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class DistributedCheckpoint(Contender):
    name = "DCP"
    note = "torch.distributed.checkpoint with no_dist=True; restores in place"

    def __init__(self) -> None:
        self._dcp = import_module("torch.distributed.checkpoint")

    def save(self, state: State, path: Path) -> None:
        self._dcp.save(state, checkpoint_id=path, no_dist=True)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        self._dcp.load(state, checkpoint_id=path, no_dist=True)
        return state

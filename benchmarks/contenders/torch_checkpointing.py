"""``torch_checkpointing``, the newest direct competitor, in its synchronous mode."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class TorchCheckpointing(Contender):
    name = "torch-checkpointing"
    distribution = "torch-checkpointing"
    peer = "torch-checkpointing"
    note = "synchronous, use_direct_io=False (its default fails with EINVAL on ext4); restores in place"

    def __init__(self) -> None:
        package = import_module("torch_checkpointing")
        config = import_module("torch_checkpointing.config")
        storage = import_module("torch_checkpointing.storage.filesystem")
        self._manager = package.CheckpointManager.Config(
            save=config.SyncCheckpointSaverConfig(),
            storage_config=storage.LocalFileSystemStorageConfig(use_direct_io=False),
        ).build()

    def save(self, state: State, path: Path) -> None:
        self._manager.save(str(path), {"state": state})

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        loaded: Mapping[str, Tensor] = self._manager.load(str(path), into={"state": state})["state"]
        return loaded

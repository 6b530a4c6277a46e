"""``torch_checkpointing``, the newest direct competitor, synchronous and asynchronous."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import ModuleType

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
            save=self._saver_config(config),
            storage_config=storage.LocalFileSystemStorageConfig(use_direct_io=False),
        ).build()

    def save(self, state: State, path: Path) -> None:
        self._manager.save(str(path), {"state": state})

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        loaded: Mapping[str, Tensor] = self._manager.load(str(path), into={"state": state})["state"]
        return loaded

    def _saver_config(self, config: ModuleType) -> Any:
        return config.SyncCheckpointSaverConfig()


class TorchCheckpointingAsync(TorchCheckpointing):
    name = "torch-checkpointing async"
    note = "asynchronous, use_direct_io=False; the stall ends when lock() lets the program change its state"

    def save(self, state: State, path: Path) -> None:
        self.start(state, path)()

    def start(self, state: State, path: Path) -> Callable[[], object]:
        future = self._manager.save(str(path), {"state": state})
        with self._manager.lock():  # entered once the content has been copied: its way of waiting for that
            return partial(future.result)

    def _saver_config(self, config: ModuleType) -> Any:
        return config.AsyncCheckpointSaverConfig()

"""``torch.distributed.checkpoint`` in a single process."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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


class DistributedCheckpointZstd(DistributedCheckpoint):
    name = "DCP zstd"
    note = "the same with DCP's ZStandard extension, as it comes (level 3, one thread)"

    def __init__(self) -> None:
        super().__init__()
        self._zstd = import_module("torch.distributed.checkpoint._extension").ZStandard

    def save(self, state: State, path: Path) -> None:
        writer = self._dcp.FileSystemWriter(path, _extensions=[self._zstd()])
        self._dcp.save(state, storage_writer=writer, no_dist=True)


class DistributedCheckpointAsync(DistributedCheckpoint):
    name = "DCP async_save"
    note = "torch.distributed.checkpoint.async_save as it comes, no_dist=True"

    def start(self, state: State, path: Path) -> Callable[[], object]:
        future = self._dcp.async_save(state, checkpoint_id=path, no_dist=True)
        return partial(future.result)


class DistributedCheckpointStager(DistributedCheckpoint):
    name = "DCP async_save, one stager"
    note = "the same with a DefaultStager that keeps its buffers from save to save, pinned where there is a GPU"

    def __init__(self) -> None:
        super().__init__()
        staging = import_module("torch.distributed.checkpoint.staging")
        pinned = import_module("torch").cuda.is_available()
        options = staging.StagingOptions(
            use_pinned_memory=pinned,
            use_shared_memory=False,
            use_async_staging=False,
            use_non_blocking_copy=pinned,
        )
        self._stager = staging.DefaultStager(options)

    def start(self, state: State, path: Path) -> Callable[[], object]:
        future = self._dcp.async_save(state, checkpoint_id=path, no_dist=True, async_stager=self._stager)
        return partial(future.result)

"""The original ``torchsnapshot``, from the wheel that still carries it."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class TorchSnapshot(Contender):
    name = "torchsnapshot"
    distribution = "torchsnapshot-nightly"
    peer = "torchsnapshot"
    note = "the original package; restores in place"

    def __init__(self) -> None:
        self._torchsnapshot = import_module("torchsnapshot")

    def save(self, state: State, path: Path) -> None:
        self._torchsnapshot.Snapshot.take(str(path), self._app_state(state))

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        target = self._torchsnapshot.StateDict(**state)
        self._torchsnapshot.Snapshot(str(path)).restore({"state": target})
        return dict(target)

    def _app_state(self, state: State) -> dict[str, Any]:
        return {"state": self._torchsnapshot.StateDict(**state)}


class TorchSnapshotAsync(TorchSnapshot):
    name = "torchsnapshot async_take"
    note = "the original package's async_take, in a process group of one: without one it needs IPv6"

    def __init__(self) -> None:
        super().__init__()
        distributed = import_module("torch.distributed")
        distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)

    def start(self, state: State, path: Path) -> Callable[[], object]:
        pending = self._torchsnapshot.Snapshot.async_take(str(path), self._app_state(state))
        return partial(pending.wait)

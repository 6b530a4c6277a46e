"""The original ``torchsnapshot``, from the wheel that still carries it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Mapping
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
        app_state = {"state": self._torchsnapshot.StateDict(**state)}
        self._torchsnapshot.Snapshot.take(str(path), app_state)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        target = self._torchsnapshot.StateDict(**state)
        self._torchsnapshot.Snapshot(str(path)).restore({"state": target})
        return dict(target)

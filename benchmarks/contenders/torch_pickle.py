"""``torch.save`` and ``torch.load``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class TorchPickle(Contender):
    name = "torch.save"
    note = "load: torch.load returns new tensors; no copy into existing ones is added"

    def __init__(self) -> None:
        self._torch = import_module("torch")

    def save(self, state: State, path: Path) -> None:
        self._torch.save(state, path)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        loaded: Mapping[str, Tensor] = self._torch.load(path, weights_only=True)
        return loaded

"""``safetensors.torch.save_file`` and ``load_file``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender, Role, copy_into

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class SafetensorsMap(Contender):
    name = "safetensors, map only"
    role = Role.NOTE
    distribution = "safetensors"
    peer = "safetensors"
    note = "load: load_file alone maps the file; the bytes are read later, by whoever touches them"

    def __init__(self) -> None:
        self._safetensors = import_module("safetensors.torch")

    def save(self, state: State, path: Path) -> None:
        self._safetensors.save_file(state, path)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        loaded: Mapping[str, Tensor] = self._safetensors.load_file(path)
        return loaded


class Safetensors(SafetensorsMap):
    name = "safetensors"
    role = Role.PEER
    note = "load: load_file, then a copy into the existing tensors, as a restore in place does"

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        return copy_into(state, super().load(state, path))

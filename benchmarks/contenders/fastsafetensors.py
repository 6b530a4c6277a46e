"""``fastsafetensors``: loads safetensors files in large blocks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender, copy_into

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class FastSafetensors(Contender):
    name = "fastsafetensors"
    distribution = "fastsafetensors"
    peer = "fastsafetensors"
    note = "loads only; copied into the existing tensors, since closing it frees its buffer"

    def __init__(self) -> None:
        self._open = import_module("fastsafetensors").fastsafe_open
        self._save_file = import_module("safetensors.torch").save_file

    def save(self, state: State, path: Path) -> None:
        self._save_file(state, path)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        with self._open(filenames=[str(path)], nogds=True, device="cpu", debug_log=False) as loader:
            return copy_into(state, {name: loader.get_tensor(name) for name in state})

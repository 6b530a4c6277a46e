"""Ours: ``sucrose.save`` and ``sucrose.load``, the file that ``torch.load`` reads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender, Role

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class SucroseFile(Contender):
    name = "sucrose.save"
    role = Role.OURS
    distribution = "torch-sucrose"
    durable = True
    note = "a .pt file that torch.load reads; load: returns new tensors"

    def __init__(self) -> None:
        sucrose = import_module("sucrose")
        self._save, self._load = sucrose.save, sucrose.load

    def save(self, state: State, path: Path) -> None:
        self._save(state, path)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        loaded: Mapping[str, Tensor] = self._load(path)
        return loaded

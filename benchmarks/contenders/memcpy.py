"""The limit of a hot load: one copy from memory to memory."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender, Role

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class Memcpy(Contender):
    name = "memcpy"
    role = Role.LIMIT
    note = "a multi-threaded copy of one block of the state's size, both sides touched before"

    def __init__(self) -> None:
        self._torch = import_module("torch")
        self._source = self._target = self._torch.empty(0)

    def save(self, state: State, path: Path) -> None:
        """Keeps a copy in one block, and moves the tensors of `state` into another."""
        path.touch()
        self._target = self._torch.cat([tensor.reshape(-1).view(self._torch.uint8) for tensor in state.values()])
        self._source = self._target.clone()
        offset = 0
        for name, tensor in state.items():
            nbytes = tensor.numel() * tensor.itemsize
            state[name] = self._target[offset : offset + nbytes].view(tensor.dtype).view(tensor.shape)
            offset += nbytes

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        self._target.copy_(self._source)
        return state

"""The limit of a hot load and of a stall: one copy from memory to memory of the same device."""

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
    stage = "copy"
    durable = True
    note = "a multi-threaded copy of one block of the state's size, both sides touched before"

    def __init__(self) -> None:
        self._torch = import_module("torch")
        self._block = self._copy = self._torch.empty(0)

    def save(self, state: State, path: Path) -> None:
        """Copies the block with all tensors of `state`, which the first call moves there."""
        path.touch()
        if not self._block.numel():
            self._gather(state)
        self._copy.copy_(self._block, non_blocking=True)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        self._block.copy_(self._copy, non_blocking=True)
        return state

    def _gather(self, state: State) -> None:
        self._block = self._torch.cat([tensor.reshape(-1).view(self._torch.uint8) for tensor in state.values()])
        self._copy = self._target(self._block)
        offset = 0
        for name, tensor in state.items():
            nbytes = tensor.numel() * tensor.itemsize
            state[name] = self._block[offset : offset + nbytes].view(tensor.dtype).view(tensor.shape)
            offset += nbytes

    def _target(self, block: Tensor) -> Tensor:
        return self._torch.empty_like(block)

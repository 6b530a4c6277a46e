"""The limit of everything that crosses the bus: one asynchronous copy from or to pinned memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contenders.memcpy import Memcpy

if TYPE_CHECKING:
    from torch import Tensor


class PinnedCopy(Memcpy):
    name = "pinned copy"
    note = "one cudaMemcpyAsync of one block of the state's size, between the device and pinned host memory"

    def _target(self, block: Tensor) -> Tensor:
        return self._torch.empty(block.shape, dtype=block.dtype, pin_memory=block.is_cuda)

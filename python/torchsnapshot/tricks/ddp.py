"""Re-export of `sucrose.snapshot.tricks.ddp`."""

from __future__ import annotations

from sucrose.snapshot.tricks.ddp import DistributedDataParallelAdapter

__all__ = ["DistributedDataParallelAdapter"]

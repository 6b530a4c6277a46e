"""Re-export of `sucrose.snapshot.tricks.fsdp`."""

from __future__ import annotations

from sucrose.snapshot.tricks.fsdp import FSDPOptimizerAdapter

__all__ = ["FSDPOptimizerAdapter"]

"""Re-export of `sucrose.snapshot.rng_state`."""

from __future__ import annotations

from sucrose.snapshot.rng_state import RNGState

__all__ = ["RNGState"]

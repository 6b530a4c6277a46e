"""Re-export of `sucrose.snapshot.state_dict`."""

from __future__ import annotations

from sucrose.snapshot.state_dict import StateDict

__all__ = ["StateDict"]

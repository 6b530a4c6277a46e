"""Re-export of `sucrose.snapshot.stateful`."""

from __future__ import annotations

from sucrose.snapshot.stateful import AppState, Stateful

__all__ = ["AppState", "Stateful"]

"""Re-export of `sucrose.snapshot.snapshot`."""

from __future__ import annotations

from sucrose.snapshot.snapshot import Snapshot

__all__ = ["Snapshot"]

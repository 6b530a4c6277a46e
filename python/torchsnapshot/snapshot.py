"""Re-export of `sucrose.snapshot.snapshot` and `sucrose.snapshot.pending`."""

from __future__ import annotations

from sucrose.snapshot.pending import PendingSnapshot
from sucrose.snapshot.snapshot import Snapshot

__all__ = ["PendingSnapshot", "Snapshot"]

"""Re-export of what `sucrose.snapshot.entries` tells of an entry."""

from __future__ import annotations

from sucrose.snapshot.entries import is_fully_replicated as is_fully_replicated_entry

__all__ = ["is_fully_replicated_entry"]

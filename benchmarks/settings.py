"""How a run measures, the same for all its cases."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of the command line that change figures."""

    runs: int = 5
    """Samples per line, the first use of a process not counted."""
    scale: float = 1.0
    """Of the number of elements of every state; figures that count have 1."""
    tmpfs: str = "/dev/shm"
    """Folder in memory, for cases that are not about a disk."""
    limit_s: float = 30.0
    """A contender that needs longer for one operation is stopped and listed with that reason."""

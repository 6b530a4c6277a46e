"""What changes files and folders, as `crash` wants to know it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ChangeKind = Literal[
    "create",
    "write",
    "truncate",
    "preallocate",
    "sync",
    "failed_sync",
    "mkdir",
    "rename",
    "exchange",
    "unlink",
    "rmdir",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One call that has succeeded, or an fsync that has failed.

    `begin` and `end` are places in one sequence: the disk may have it from `begin` on, and the program knows of it
    from `end` on. Files and folders are known by device and inode where they are open, else by path.
    """

    kind: ChangeKind
    begin: int
    end: int
    device: int = 0
    inode: int = 0
    path: str = ""
    target: str = ""
    """The second path of a rename or exchange."""
    offset: int = 0
    """Of a write; the size, of a truncation or preallocation."""
    data: bytes = b""

    def __str__(self) -> str:
        """For messages."""
        if self.kind == "write":
            return f"write of {len(self.data)} bytes at {self.offset} of inode {self.inode}"
        if self.kind in ("truncate", "preallocate"):
            return f"{self.kind} of inode {self.inode} to {self.offset} bytes"
        if self.kind in ("sync", "failed_sync"):
            return f"{self.kind} of inode {self.inode}"
        return f"{self.kind} {self.path}" + (f" -> {self.target}" if self.target else "")


class Listener:
    """Collects changes while `changes` is a list. Appending is one step, for all threads."""

    def __init__(self) -> None:
        self.changes: list[Change] | None = None


LISTENER = Listener()

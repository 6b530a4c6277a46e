"""What a take measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeStats:
    """What a finished take did; times in seconds."""

    tensors: int
    objects: int
    nbytes: int
    """Bytes of all files, before compression and with headers; what a base has is not among them."""
    stored_nbytes: int
    """Bytes of the same files on the disk."""
    referred_nbytes: int
    """Bytes of tensors, or of pieces of them, that were not written, as a base has them."""
    staging: str
    """Where `async_take` copied tensors to: ``"device"``, ``"host"``, ``"blocking"`` where there was
    too little memory and files were written instead, or ``"none"``; the last of these that occurred
    where there are several files."""
    stall_s: float
    """From the call until it returned: how long the program stood still."""
    capture_s: float
    """state_dict() calls, flattening and planning."""
    write_s: float
    """From the first byte until all data files are known to be complete and durable, objects included."""
    commit_s: float
    """Index, metadata, fsyncs of directories, and the rename."""
    engine: dict[str, Any]

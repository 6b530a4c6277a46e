"""The checkpoints of a scenario: writing, reading, and which of them stay.

Listing needs no torch; the rest is brought in when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sucrose.scenarios.checkpoints.listing import CheckpointInfo, list_checkpoints

if TYPE_CHECKING:
    from sucrose.scenarios.checkpoints.folder import CheckpointFolder as CheckpointFolder
    from sucrose.scenarios.checkpoints.held_epoch import HeldEpoch as HeldEpoch
    from sucrose.scenarios.checkpoints.loading import Loaded as Loaded

__all__ = ["CheckpointFolder", "CheckpointInfo", "HeldEpoch", "Loaded", "list_checkpoints"]

_HOME = {"CheckpointFolder": "folder", "HeldEpoch": "held_epoch", "Loaded": "loading"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

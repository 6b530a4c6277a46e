"""The import name of lattice-addons for programs that were written for it. Re-exports `sucrose.state`."""

from __future__ import annotations

from sucrose.state.group import StateManagerGroup
from sucrose.state.managers import (
    BaseStateManager,
    StateClosureManager,
    StateCopyManager,
    StateManager,
    StateRefManager,
)
from sucrose.state.picklable import Picklable, PicklableDict, PicklableWrapper, State
from sucrose.state.settings import CHECKPOINT_CONFIG, CHECKPOINT_TYPE
from sucrose.state.symbolic import StateSymbolicManager

__all__ = [
    "CHECKPOINT_CONFIG",
    "CHECKPOINT_TYPE",
    "BaseStateManager",
    "Picklable",
    "PicklableDict",
    "PicklableWrapper",
    "State",
    "StateClosureManager",
    "StateCopyManager",
    "StateManager",
    "StateManagerGroup",
    "StateRefManager",
    "StateSymbolicManager",
]

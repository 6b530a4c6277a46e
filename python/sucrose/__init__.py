"""Checkpoints for PyTorch: application state to storage and back at the speed of the hardware.

`Snapshot` saves and restores whole applications, in the background where wanted, `Catalog` keeps many
snapshots in a folder, `save` and `load` are for single files that torch reads too. Importing this
package is light; each name brings in what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sucrose.catalog.catalog import Catalog as Catalog
    from sucrose.catalog.collecting import CollectReport as CollectReport
    from sucrose.catalog.generation import Generation as Generation
    from sucrose.catalog.pending import PendingGeneration as PendingGeneration
    from sucrose.catalog.retention import Retention as Retention
    from sucrose.engine import build_info as build_info
    from sucrose.snapshot.pending import PendingSnapshot as PendingSnapshot
    from sucrose.snapshot.restore import RestoreReport as RestoreReport
    from sucrose.snapshot.rng_state import RNGState as RNGState
    from sucrose.snapshot.single_file import load as load
    from sucrose.snapshot.single_file import save as save
    from sucrose.snapshot.snapshot import Snapshot as Snapshot
    from sucrose.snapshot.state_dict import StateDict as StateDict
    from sucrose.snapshot.stateful import Stateful as Stateful
    from sucrose.snapshot.verify import VerifyReport as VerifyReport
    from sucrose.state.group import StateManagerGroup as StateManagerGroup
    from sucrose.state.managers import BaseStateManager as BaseStateManager
    from sucrose.state.managers import StateClosureManager as StateClosureManager
    from sucrose.state.managers import StateCopyManager as StateCopyManager
    from sucrose.state.managers import StateManager as StateManager
    from sucrose.state.managers import StateRefManager as StateRefManager
    from sucrose.state.picklable import PicklableDict as PicklableDict
    from sucrose.state.picklable import PicklableWrapper as PicklableWrapper
    from sucrose.state.stopping import should_stop as should_stop
    from sucrose.state.symbolic import StateSymbolicManager as StateSymbolicManager

_HOME = {
    "BaseStateManager": "sucrose.state.managers",
    "Catalog": "sucrose.catalog.catalog",
    "CollectReport": "sucrose.catalog.collecting",
    "Generation": "sucrose.catalog.generation",
    "PendingGeneration": "sucrose.catalog.pending",
    "PendingSnapshot": "sucrose.snapshot.pending",
    "PicklableDict": "sucrose.state.picklable",
    "PicklableWrapper": "sucrose.state.picklable",
    "RNGState": "sucrose.snapshot.rng_state",
    "RestoreReport": "sucrose.snapshot.restore",
    "Retention": "sucrose.catalog.retention",
    "Snapshot": "sucrose.snapshot.snapshot",
    "StateClosureManager": "sucrose.state.managers",
    "StateCopyManager": "sucrose.state.managers",
    "StateDict": "sucrose.snapshot.state_dict",
    "StateManager": "sucrose.state.managers",
    "StateManagerGroup": "sucrose.state.group",
    "StateRefManager": "sucrose.state.managers",
    "StateSymbolicManager": "sucrose.state.symbolic",
    "Stateful": "sucrose.snapshot.stateful",
    "VerifyReport": "sucrose.snapshot.verify",
    "build_info": "sucrose.engine",
    "load": "sucrose.snapshot.single_file",
    "save": "sucrose.snapshot.single_file",
    "should_stop": "sucrose.state.stopping",
}

__all__ = [
    "BaseStateManager",
    "Catalog",
    "CollectReport",
    "Generation",
    "PendingGeneration",
    "PendingSnapshot",
    "PicklableDict",
    "PicklableWrapper",
    "RNGState",
    "RestoreReport",
    "Retention",
    "Snapshot",
    "StateClosureManager",
    "StateCopyManager",
    "StateDict",
    "StateManager",
    "StateManagerGroup",
    "StateRefManager",
    "StateSymbolicManager",
    "Stateful",
    "VerifyReport",
    "build_info",
    "load",
    "save",
    "should_stop",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version("torch-sucrose")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

"""Checkpoints for PyTorch: application state to storage and back at the speed of the hardware.

`Snapshot` saves and restores whole applications, in the background where wanted, `Catalog` keeps many
snapshots in a folder, `save` and `load` are for single files that torch reads too. `scenario` begins an
experiment, with its configuration, checkpoints, epochs and logs. Importing this package is light; each
name brings in what it needs when it is first used.
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sucrose import post as post
    from sucrose.catalog.catalog import Catalog as Catalog
    from sucrose.catalog.collecting import CollectReport as CollectReport
    from sucrose.catalog.generation import Generation as Generation
    from sucrose.catalog.pending import PendingGeneration as PendingGeneration
    from sucrose.catalog.retention import Retention as Retention
    from sucrose.compression import Compression as Compression
    from sucrose.engine import build_info as build_info
    from sucrose.scenarios.checkpoint_names import find_latest_epoch as find_latest_epoch
    from sucrose.scenarios.current import auto_get_scenario as auto_get_scenario
    from sucrose.scenarios.current import get_current_scenario as get_current_scenario
    from sucrose.scenarios.functions import epoch_range as epoch_range
    from sucrose.scenarios.functions import find_last_epoch as find_last_epoch
    from sucrose.scenarios.functions import get_current_step as get_current_step
    from sucrose.scenarios.functions import load_state_dict as load_state_dict
    from sucrose.scenarios.functions import log as log
    from sucrose.scenarios.functions import partial as partial
    from sucrose.scenarios.functions import save_state_dict as save_state_dict
    from sucrose.scenarios.functions import scenario as scenario
    from sucrose.scenarios.functions import start_project as start_project
    from sucrose.scenarios.functions import start_pytorch_tensorboard as start_pytorch_tensorboard
    from sucrose.scenarios.functions import step as step
    from sucrose.scenarios.functions import track as track
    from sucrose.scenarios.scenario import Scenario as Scenario
    from sucrose.snapshot.pending import PendingSnapshot as PendingSnapshot
    from sucrose.snapshot.restore import RestoreReport as RestoreReport
    from sucrose.snapshot.rng_state import RNGState as RNGState
    from sucrose.snapshot.single_file import load as load
    from sucrose.snapshot.single_file import save as save
    from sucrose.snapshot.snapshot import Snapshot as Snapshot
    from sucrose.snapshot.staged_upload.resuming import resume_uploads as resume_uploads
    from sucrose.snapshot.state_dict import StateDict as StateDict
    from sucrose.snapshot.stateful import Stateful as Stateful
    from sucrose.snapshot.tricks.ddp import DistributedDataParallelAdapter as DistributedDataParallelAdapter
    from sucrose.snapshot.tricks.fsdp import FSDPOptimizerAdapter as FSDPOptimizerAdapter
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

logger = logging.getLogger(__name__)
"""The parent of all loggers of this package."""

_HOME = {
    "BaseStateManager": "sucrose.state.managers",
    "Catalog": "sucrose.catalog.catalog",
    "CollectReport": "sucrose.catalog.collecting",
    "Compression": "sucrose.compression",
    "DistributedDataParallelAdapter": "sucrose.snapshot.tricks.ddp",
    "FSDPOptimizerAdapter": "sucrose.snapshot.tricks.fsdp",
    "Generation": "sucrose.catalog.generation",
    "PendingGeneration": "sucrose.catalog.pending",
    "PendingSnapshot": "sucrose.snapshot.pending",
    "PicklableDict": "sucrose.state.picklable",
    "PicklableWrapper": "sucrose.state.picklable",
    "RNGState": "sucrose.snapshot.rng_state",
    "RestoreReport": "sucrose.snapshot.restore",
    "Retention": "sucrose.catalog.retention",
    "Scenario": "sucrose.scenarios.scenario",
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
    "auto_get_scenario": "sucrose.scenarios.current",
    "build_info": "sucrose.engine",
    "epoch_range": "sucrose.scenarios.functions",
    "find_last_epoch": "sucrose.scenarios.functions",
    "find_latest_epoch": "sucrose.scenarios.checkpoint_names",
    "get_current_scenario": "sucrose.scenarios.current",
    "get_current_step": "sucrose.scenarios.functions",
    "load": "sucrose.snapshot.single_file",
    "load_state_dict": "sucrose.scenarios.functions",
    "log": "sucrose.scenarios.functions",
    "partial": "sucrose.scenarios.functions",
    "post": "sucrose",
    "resume_uploads": "sucrose.snapshot.staged_upload.resuming",
    "save": "sucrose.snapshot.single_file",
    "save_state_dict": "sucrose.scenarios.functions",
    "scenario": "sucrose.scenarios.functions",
    "should_stop": "sucrose.state.stopping",
    "start_project": "sucrose.scenarios.functions",
    "start_pytorch_tensorboard": "sucrose.scenarios.functions",
    "step": "sucrose.scenarios.functions",
    "track": "sucrose.scenarios.functions",
}

__all__ = [
    "BaseStateManager",
    "Catalog",
    "CollectReport",
    "Compression",
    "DistributedDataParallelAdapter",
    "FSDPOptimizerAdapter",
    "Generation",
    "PendingGeneration",
    "PendingSnapshot",
    "PicklableDict",
    "PicklableWrapper",
    "RNGState",
    "RestoreReport",
    "Retention",
    "Scenario",
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
    "auto_get_scenario",
    "build_info",
    "epoch_range",
    "find_last_epoch",
    "find_latest_epoch",
    "get_current_scenario",
    "get_current_step",
    "load",
    "load_state_dict",
    "log",
    "logger",
    "partial",
    "post",
    "resume_uploads",
    "save",
    "save_state_dict",
    "scenario",
    "should_stop",
    "start_project",
    "start_pytorch_tensorboard",
    "step",
    "track",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version("torch-sucrose")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name) if home != __name__ else import_module(f"{home}.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

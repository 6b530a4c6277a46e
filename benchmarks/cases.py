"""What is measured: every case of the goals table as a list of cells."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contenders import COMPRESSORS, LOADERS, SAVERS, STALLERS
from benchmarks.contenders.dcp import DistributedCheckpoint, DistributedCheckpointAsync
from benchmarks.contenders.memcpy import Memcpy
from benchmarks.contenders.object_store import (
    Boto3Transfer,
    DistributedCheckpointOnObjectStore,
    S3fsTransfer,
    SucroseOnObjectStore,
)
from benchmarks.contenders.on_ranks import DistributedCheckpointOnRanks, SucroseOnRanks
from benchmarks.contenders.pinned_copy import PinnedCopy
from benchmarks.contenders.safetensors_file import Safetensors
from benchmarks.contenders.sucrose_engine import EngineDigest, EngineNoDigest
from benchmarks.contenders.sucrose_file import SucroseFile
from benchmarks.contenders.sucrose_incremental import SucroseFrozen, SucroseRows, SucroseSame
from benchmarks.contenders.sucrose_layers import SucroseCatalog, SucroseStates
from benchmarks.contenders.sucrose_scenario import SucroseScenario, SucroseScenarioHeld, SucroseScenarioSnapshot
from benchmarks.contenders.sucrose_snapshot import SucroseAsync, SucroseSnapshot, SucroseUnverified
from benchmarks.contenders.torch_pickle import TorchPickle
from benchmarks.contenders.torchsnapshot import TorchSnapshot
from benchmarks.records import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPlan:
    """One operation on one state by some contenders; the raw limit that fits it joins by itself."""

    operation: Operation
    state: str
    contenders: tuple[str, ...]
    device: str = "cpu"
    """Where the state lies: cpu or cuda."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row of the goals table."""

    title: str
    cells: tuple[CellPlan, ...]


_SAVERS = tuple(contender.name for contender in SAVERS)
_LOADERS = tuple(contender.name for contender in LOADERS)
_FILES = (SucroseFile.name, TorchPickle.name)
_STALLERS = tuple(contender.name for contender in STALLERS)
_ENGINES = (EngineDigest.name, EngineNoDigest.name)
_GPU_SAVERS = (SucroseSnapshot.name, TorchPickle.name, DistributedCheckpoint.name, TorchSnapshot.name)
_SCENARIOS = (SucroseScenario.name, SucroseScenarioSnapshot.name, TorchPickle.name)
_LAYERS = (SucroseCatalog.name, SucroseStates.name, TorchPickle.name)
_INCREMENTAL = (SucroseFrozen.name, SucroseRows.name, SucroseSame.name)
_COMPRESSORS = tuple(contender.name for contender in COMPRESSORS)
_UNCOMPRESSED = (SucroseSnapshot.name, TorchPickle.name)
_RANKS = (SucroseOnRanks.name, SucroseSnapshot.name, DistributedCheckpointOnRanks.name)
_OBJECT_STORE = (
    SucroseOnObjectStore.name,
    S3fsTransfer.name,
    Boto3Transfer.name,
    DistributedCheckpointOnObjectStore.name,
)
_QUICK = (SucroseSnapshot.name, TorchPickle.name, Safetensors.name)


def _cells(
    operation: Operation, states: tuple[str, ...], contenders: tuple[str, ...], device: str = "cpu"
) -> tuple[CellPlan, ...]:
    """One cell for each state; what copies in memory as fast as can be joins where it is a limit."""
    if operation in {Operation.LOAD_HOT, Operation.STALL}:
        contenders = (*contenders, Memcpy.name)
    elif operation.is_rate and device == "cuda":
        contenders = (*contenders, PinnedCopy.name)
    return tuple(CellPlan(operation=operation, state=state, contenders=contenders, device=device) for state in states)


CASES: dict[str, Case] = {
    "P1": Case(
        title="Durable save",
        cells=_cells(Operation.SAVE, ("large", "bf16", "real"), _SAVERS),
    ),
    "P2": Case(
        title="Load, page cache hot",
        cells=_cells(Operation.LOAD_HOT, ("large", "bf16", "real"), _LOADERS),
    ),
    "P3": Case(
        title="Load, page cache cold",
        cells=_cells(Operation.LOAD_COLD, ("large", "bf16", "real"), _LOADERS),
    ),
    "P4": Case(
        title="Many small tensors",
        cells=(
            *_cells(Operation.SAVE, ("small", "many"), _SAVERS),
            *_cells(Operation.LOAD_HOT, ("small", "many"), _LOADERS),
            *_cells(Operation.LOAD_COLD, ("small",), _LOADERS),
        ),
    ),
    "P5": Case(
        title="Stall of an asynchronous save",
        cells=_cells(Operation.STALL, ("large", "bf16"), _STALLERS),
    ),
    "P5-loop": Case(
        title="Training while a snapshot is written",
        cells=_cells(Operation.LOOP, ("training",), _STALLERS),
    ),
    "P6": Case(
        title="Compression",
        cells=(
            *_cells(Operation.STORED_SIZE, ("bf16", "large"), _COMPRESSORS),
            *_cells(Operation.SAVE, ("bf16",), (*_COMPRESSORS, *_UNCOMPRESSED)),
            *_cells(Operation.LOAD_HOT, ("bf16",), (*_COMPRESSORS, *_UNCOMPRESSED)),
            *_cells(Operation.SAVE_CPU, ("bf16",), (*_COMPRESSORS, *_UNCOMPRESSED)),
            *_cells(Operation.LOAD_CPU, ("bf16",), (*_COMPRESSORS, *_UNCOMPRESSED)),
        ),
    ),
    "P7": Case(
        title="Peak memory above the state",
        cells=(
            *_cells(Operation.PEAK_SAVE, ("large",), _SAVERS),
            *_cells(Operation.PEAK_SAVE, ("double", "small", "real"), (SucroseSnapshot.name,)),
            *_cells(Operation.PEAK_LOAD, ("large",), _SAVERS),
            *_cells(Operation.PEAK_LOAD, ("double", "small", "real"), (SucroseSnapshot.name,)),
        ),
    ),
    "P8": Case(
        title="Cost of the digests",
        cells=(
            *_cells(Operation.SAVE, ("large",), (EngineDigest.name, EngineNoDigest.name)),
            *_cells(Operation.LOAD_COLD, ("large",), (SucroseSnapshot.name, SucroseUnverified.name)),
            *_cells(Operation.LOAD_HOT, ("large",), (SucroseSnapshot.name, SucroseUnverified.name)),
        ),
    ),
    "P9": Case(
        title="A single .pt file",
        cells=(
            *_cells(Operation.SAVE, ("large", "real"), _FILES),
            *_cells(Operation.LOAD_HOT, ("large", "real"), _FILES),
        ),
    ),
    "P10": Case(
        title="Import and first use",
        cells=(
            *_cells(Operation.IMPORT, ("",), _SAVERS),
            *_cells(Operation.FIRST_SAVE, ("large",), _QUICK),
        ),
    ),
    "L1": Case(
        title="Catalog and state managers beside a bare snapshot",
        cells=(
            *_cells(Operation.SAVE, ("large", "small"), (SucroseSnapshot.name, *_LAYERS)),
            *_cells(Operation.STALL, ("large",), (SucroseAsync.name, *_LAYERS)),
            *_cells(Operation.LOAD_HOT, ("large", "small"), (SucroseSnapshot.name, *_LAYERS)),
        ),
    ),
    "L2": Case(
        title="The end of an epoch in a scenario",
        cells=(
            *_cells(Operation.SAVE, ("large", "small"), (SucroseFile.name, *_SCENARIOS)),
            *_cells(Operation.STALL, ("large", "small"), (SucroseScenarioHeld.name, *_SCENARIOS)),
            *_cells(Operation.LOAD_HOT, ("large", "small"), (SucroseFile.name, *_SCENARIOS)),
        ),
    ),
    "L3": Case(
        title="A snapshot that refers to the one before",
        cells=(
            *_cells(
                Operation.SAVE,
                ("large",),
                (*_INCREMENTAL, SucroseSnapshot.name, TorchPickle.name, DistributedCheckpoint.name),
            ),
            *_cells(
                Operation.STALL,
                ("large",),
                (*_INCREMENTAL, SucroseAsync.name, DistributedCheckpointAsync.name, TorchPickle.name),
            ),
            *_cells(
                Operation.LOAD_HOT,
                ("large",),
                (SucroseFrozen.name, SucroseRows.name, SucroseSnapshot.name, TorchPickle.name),
            ),
        ),
    ),
    "D1": Case(
        title="Four ranks with the same state",
        cells=_cells(Operation.SAVE, ("large", "real"), _RANKS),
    ),
    "S1": Case(
        title="To an object store and back",
        cells=(
            *_cells(Operation.PUT, ("large",), _OBJECT_STORE),
            *_cells(Operation.GET, ("large",), _OBJECT_STORE),
        ),
    ),
    "G1": Case(
        title="GPU: through the engine, to and from a tmpfs",
        cells=(
            *_cells(Operation.DEVICE_TO_HOST, ("large", "small"), _ENGINES, "cuda"),
            *_cells(Operation.HOST_TO_DEVICE, ("large", "small"), _ENGINES, "cuda"),
        ),
    ),
    "G2": Case(
        title="GPU: stall of an asynchronous save",
        cells=_cells(Operation.STALL, ("large", "bf16", "small", "real"), _STALLERS, "cuda"),
    ),
    "G3": Case(
        title="GPU: durable save",
        cells=(
            *_cells(Operation.SAVE_TMPFS, ("large", "bf16", "small", "real"), _GPU_SAVERS, "cuda"),
            *_cells(Operation.SAVE, ("large", "bf16", "small", "real"), _GPU_SAVERS, "cuda"),
        ),
    ),
    "G4": Case(
        title="GPU: training while a snapshot is written",
        cells=_cells(Operation.LOOP, ("training",), _STALLERS, "cuda"),
    ),
}
"""The first letter of a name is its family: P and L are for every machine, D for several ranks, S for object stores, G
for GPUs."""

FAMILIES = tuple(dict.fromkeys(name[0] for name in CASES))

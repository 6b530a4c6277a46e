"""What is measured: every case of the goals table as a list of cells."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contenders import LOADERS, SAVERS
from benchmarks.contenders.memcpy import Memcpy
from benchmarks.contenders.safetensors_file import Safetensors
from benchmarks.contenders.sucrose_engine import EngineDigest, EngineNoDigest
from benchmarks.contenders.sucrose_file import SucroseFile
from benchmarks.contenders.sucrose_snapshot import SucroseSnapshot, SucroseUnverified
from benchmarks.contenders.torch_pickle import TorchPickle
from benchmarks.records import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPlan:
    """One operation on one state by some contenders; the raw limit that fits it joins by itself."""

    operation: Operation
    state: str
    contenders: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row of the goals table."""

    title: str
    cells: tuple[CellPlan, ...]


_SAVERS = tuple(contender.name for contender in SAVERS)
_LOADERS = tuple(contender.name for contender in LOADERS)
_FILES = (SucroseFile.name, TorchPickle.name)
_QUICK = (SucroseSnapshot.name, TorchPickle.name, Safetensors.name)


def _cells(operation: Operation, states: tuple[str, ...], contenders: tuple[str, ...]) -> tuple[CellPlan, ...]:
    if operation is Operation.LOAD_HOT:
        contenders = (*contenders, Memcpy.name)
    return tuple(CellPlan(operation=operation, state=state, contenders=contenders) for state in states)


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
}
"""P5 and P6 belong to asynchronous and compressed snapshots."""

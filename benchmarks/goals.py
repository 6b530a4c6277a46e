"""The goals, and what the results say about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.contenders.dcp import (
    DistributedCheckpoint,
    DistributedCheckpointAsync,
    DistributedCheckpointZstd,
)
from benchmarks.contenders.object_store import SucroseOnObjectStore
from benchmarks.contenders.on_ranks import SucroseOnRanks
from benchmarks.contenders.safetensors_file import Safetensors
from benchmarks.contenders.sucrose_engine import EngineDigest, EngineNoDigest
from benchmarks.contenders.sucrose_file import SucroseFile
from benchmarks.contenders.sucrose_snapshot import (
    SucroseAsync,
    SucroseCompressed,
    SucroseSnapshot,
    SucroseUnverified,
)
from benchmarks.contenders.torch_pickle import TorchPickle
from benchmarks.contenders.torchsnapshot import TorchSnapshot
from benchmarks.records import Operation
from benchmarks.timing import Spread, speed_ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.records import Cell, Line, Result

RING_NBYTES = 8 * (16 << 20)
"""The buffers that a save or a load of any size may use."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure of one operation, for each of some states."""

    case: str
    operation: Operation
    states: tuple[str, ...]
    sense: Literal["≥", "≤"]
    bound: float
    meaning: str
    measure: Callable[[Cell], Spread | None]

    def __str__(self) -> str:
        return f"{self.sense} {self.bound:g} {self.meaning}"

    def is_met(self, found: float) -> bool:
        """Whether `found` is within the bound."""
        return found >= self.bound if self.sense == "≥" else found <= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal on one state; `found` is None where it was not measured."""

    goal: Goal
    state: str
    found: Spread | None


def verdicts(results: Mapping[str, Result]) -> Iterator[Verdict]:
    """Holds every goal against the results of its case."""
    for goal in GOALS:
        result = results.get(goal.case)
        cells = {(cell.operation, cell.state): cell for cell in result.cells} if result else {}
        for state in goal.states:
            cell = cells.get((goal.operation, state))
            yield Verdict(goal, state, goal.measure(cell) if cell else None)


def _ours(
    measure: Callable[[Cell, Line], Spread | None], name: str = SucroseSnapshot.name
) -> Callable[[Cell], Spread | None]:
    def measured(cell: Cell) -> Spread | None:
        line = cell.line(name)
        return measure(cell, line) if line.samples else None

    return measured


def _ratio(name: str, than: str) -> Callable[[Cell], Spread | None]:
    def measured(cell: Cell) -> Spread | None:
        own, other = cell.line(name), cell.line(than)
        return speed_ratio(own.samples, other.samples) if own.samples and other.samples else None

    return measured


def _cost_percent(name: str, without: str) -> Callable[[Cell], Spread | None]:
    def measured(cell: Cell) -> Spread | None:
        own, bare = cell.line(name).samples, cell.line(without).samples
        if not own or not bare:
            return None
        return Spread.of((seconds / other - 1) * 100 for seconds, other in zip(own, bare, strict=True))

    return measured


def _scaled(factor: float, name: str = SucroseSnapshot.name) -> Callable[[Cell], Spread | None]:
    return _ours(lambda _, line: Spread.of(sample * factor for sample in line.samples), name)


_of_limit = _ours(lambda cell, line: cell.of_limit(line))
_of_best_peer = _ours(lambda cell, line: cell.of_best_peer(line))
_us_per_tensor = _ours(lambda cell, line: cell.us_per_tensor_above_limit(line))
_than_safetensors = _ratio(SucroseSnapshot.name, Safetensors.name)
_engine_of_limit = _ours(lambda cell, line: cell.of_limit(line), EngineDigest.name)
_times_copy = _ours(lambda cell, line: cell.times_limit(line), SucroseAsync.name)
_stall_than_dcp = _ratio(SucroseAsync.name, DistributedCheckpointAsync.name)
_slow_down = _scaled(1, SucroseAsync.name)
_than_torch = _ratio(SucroseFile.name, TorchPickle.name)
_digests_written = _cost_percent(EngineDigest.name, EngineNoDigest.name)
_digests_checked = _cost_percent(SucroseSnapshot.name, SucroseUnverified.name)
_mib, _milliseconds, _as_it_is = _scaled(1 / (1 << 20)), _scaled(1000), _scaled(1)

_percent = _scaled(1, SucroseCompressed.name)
_gbps = _ours(lambda cell, line: cell.gbps(line), SucroseCompressed.name)
_than_dcp_zstd = _ratio(SucroseCompressed.name, DistributedCheckpointZstd.name)

_of_best_transfer = _ours(lambda cell, line: cell.of_best_peer(line), SucroseOnObjectStore.name)

_rank_excess = _ours(lambda cell, line: Spread.of([cell.rank_excess_percent(line)]), SucroseOnRanks.name)
_rank_total = _ours(lambda cell, line: Spread.of([cell.rank_total_percent(line)]), SucroseOnRanks.name)

_SAVE, _HOT, _COLD = Operation.SAVE, Operation.LOAD_HOT, Operation.LOAD_COLD
_TMPFS, _STALL = Operation.SAVE_TMPFS, Operation.STALL
_BIG, _SIZES = ("large", "bf16"), ("large", "double", "small", "real")
_PEAK_MIB = RING_NBYTES / (1 << 20) + 64


GOALS: tuple[Goal, ...] = (
    Goal("P1", _SAVE, _BIG, "≥", 0.95, "of the raw limit", _of_limit),
    Goal("P1", _SAVE, _BIG, "≥", 1.3, "× the best peer with fsync", _of_best_peer),
    Goal("P2", _HOT, _BIG, "≥", 1.0, "× safetensors, digests checked", _than_safetensors),
    Goal("P3", _COLD, _BIG, "≥", 0.95, "of the raw limit", _of_limit),
    Goal("P4", _SAVE, ("small",), "≥", 4, "× safetensors", _than_safetensors),
    Goal("P4", _HOT, ("small",), "≥", 3, "× safetensors", _than_safetensors),
    Goal("P4", _SAVE, ("small", "many"), "≤", 5, "µs per tensor above the raw limit", _us_per_tensor),
    Goal("P4", _HOT, ("small", "many"), "≤", 5, "µs per tensor above the raw limit", _us_per_tensor),
    Goal("P5", _STALL, _BIG, "≤", 1.25, "× a bare multi-threaded copy", _times_copy),
    Goal("P5", _STALL, _BIG, "≥", 3, "× less than DCP async_save", _stall_than_dcp),
    Goal("P6", Operation.STORED_SIZE, ("bf16",), "≤", 68, "% of the state", _percent),
    Goal("P6", Operation.SAVE_CPU, ("bf16",), "≥", 0.6, "GB/s of a core", _gbps),
    Goal("P6", Operation.LOAD_CPU, ("bf16",), "≥", 1.2, "GB/s of a core", _gbps),
    Goal("P6", _SAVE, ("bf16",), "≥", 2, "× DCP with zstd", _than_dcp_zstd),
    Goal("P6", _HOT, ("bf16",), "≥", 2, "× DCP with zstd", _than_dcp_zstd),
    Goal("P7", Operation.PEAK_SAVE, _SIZES, "≤", _PEAK_MIB, "MiB (ring + 64) above the state", _mib),
    Goal("P7", Operation.PEAK_LOAD, _SIZES, "≤", _PEAK_MIB, "MiB (ring + 64) above the state", _mib),
    Goal("P8", _SAVE, ("large",), "≤", 5, "% for the digests", _digests_written),
    Goal("P8", _COLD, ("large",), "≤", 5, "% for the digests", _digests_checked),
    Goal("P9", _SAVE, ("large", "real"), "≥", 1.5, "× torch.save with fsync", _than_torch),
    Goal("P9", _HOT, ("large", "real"), "≥", 3, "× torch.load", _than_torch),
    Goal("P10", Operation.IMPORT, ("",), "≤", 150, "ms on top of torch", _milliseconds),
    Goal("P10", Operation.FIRST_SAVE, ("large",), "≤", 1.2, "× the later saves", _as_it_is),
    Goal("D1", _SAVE, ("large", "real"), "≤", 10, "% more on the busiest rank than on the idlest", _rank_excess),
    Goal("D1", _SAVE, ("large", "real"), "≤", 101, "% of one copy, all ranks together", _rank_total),
    Goal("S1", Operation.PUT, ("large",), "≥", 0.9, "× the best of s3fs, boto3 and DCP", _of_best_transfer),
    Goal("S1", Operation.GET, ("large",), "≥", 0.9, "× the best of s3fs, boto3 and DCP", _of_best_transfer),
    Goal("G1", Operation.DEVICE_TO_HOST, ("large",), "≥", 0.95, "of one pinned copy", _engine_of_limit),
    Goal("G1", Operation.HOST_TO_DEVICE, ("large",), "≥", 0.95, "of one pinned copy", _engine_of_limit),
    Goal("G2", _STALL, _BIG, "≤", 1.2, "× a device-to-device copy", _times_copy),
    Goal("G3", _TMPFS, _BIG, "≥", 0.9, "of the slower of pinned copy and tmpfs", _of_limit),
    Goal("G3", _SAVE, _BIG, "≥", 0.9, "of the slower of pinned copy and disk", _of_limit),
    Goal("G3", _TMPFS, _BIG, "≥", 5, "× torch.save", _ratio(SucroseSnapshot.name, TorchPickle.name)),
    Goal("G3", _TMPFS, _BIG, "≥", 3, "× DCP", _ratio(SucroseSnapshot.name, DistributedCheckpoint.name)),
    Goal("G3", _TMPFS, _BIG, "≥", 3, "× torchsnapshot", _ratio(SucroseSnapshot.name, TorchSnapshot.name)),
    Goal("G4", Operation.LOOP, ("training",), "≤", 3, "% longer steps while a snapshot is written", _slow_down),
)

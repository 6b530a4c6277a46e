"""What a benchmark run has found, and its JSON.

A `Result` is one case, a `Cell` one operation on one state, a `Line` one contender in it. Lines of
a cell that were measured have one sample per round, taken in the same rounds; what is derived from
the samples (rates, ratios) is computed by the methods here and repeated in the JSON for its readers.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import Role
from benchmarks.loop import LoopTrace
from benchmarks.timing import Spread, speed_ratio

if TYPE_CHECKING:
    from pathlib import Path

_ABSOLUTE_PATH = re.compile(r"(?:/[\w.+@-]+)+/(?=[\w.+@-])")


class Operation(str, Enum):
    """What is measured; the value is the key in the JSON."""

    SAVE = "save"
    SAVE_TMPFS = "save to tmpfs"
    DEVICE_TO_HOST = "device to host"
    HOST_TO_DEVICE = "host to device"
    PUT = "save to an object store"
    GET = "load from an object store"
    STALL = "stall"
    LOOP = "training loop"
    LOAD_HOT = "load hot"
    LOAD_COLD = "load cold"
    PEAK_SAVE = "peak memory of a save"
    PEAK_LOAD = "peak memory of a load"
    IMPORT = "import"
    FIRST_SAVE = "first save / later saves"
    SAVE_CPU = "save, per core"
    LOAD_CPU = "load, per core"
    STORED_SIZE = "size of the files"
    PLAN_RANK = "plan of a rank"
    PLAN_MERGE = "plan of rank 0"
    PLAN_SENT = "bytes from a rank"
    PLAN_RECEIVED = "bytes to rank 0"
    PLAN_STORED = "manifest and index"
    PLAN_PEAK = "peak memory of rank 0"

    @property
    def unit(self) -> str:
        """Of a sample: seconds, bytes, percent, or none for a ratio."""
        if self in _IN_BYTES:
            return "B"
        if self in {Operation.LOOP, Operation.STORED_SIZE}:
            return "%"
        return "" if self is Operation.FIRST_SAVE else "s"

    @property
    def is_rate(self) -> bool:
        """Whether bytes over a sample are a rate that can be compared with others."""
        return self.is_save or self.is_load or self.is_cpu

    @property
    def is_cpu(self) -> bool:
        """Whether a sample is the processor time of a save or a load, of all threads together."""
        return self in {Operation.SAVE_CPU, Operation.LOAD_CPU}

    @property
    def is_save(self) -> bool:
        """Whether a sample is one save, from its beginning to its durable end."""
        return self in {Operation.SAVE, Operation.SAVE_TMPFS, Operation.DEVICE_TO_HOST, Operation.PUT}

    @property
    def is_load(self) -> bool:
        """Whether a sample is one load."""
        return self in {Operation.LOAD_HOT, Operation.LOAD_COLD, Operation.HOST_TO_DEVICE, Operation.GET}

    @property
    def in_rounds(self) -> bool:
        """Whether contenders take turns; the others are measured in fresh processes."""
        return self.is_rate or self in {Operation.STALL, Operation.LOOP, Operation.STORED_SIZE}

    @property
    def in_memory(self) -> bool:
        """Whether the files lie in a tmpfs."""
        return self.in_object_store or self in {
            Operation.SAVE_TMPFS,
            Operation.DEVICE_TO_HOST,
            Operation.HOST_TO_DEVICE,
        }

    @property
    def in_object_store(self) -> bool:
        """Whether saves go to an object store; files that are transferred to it, or from it, lie in a tmpfs."""
        return self in {Operation.PUT, Operation.GET}


_IN_BYTES = frozenset(
    {
        Operation.PEAK_SAVE,
        Operation.PEAK_LOAD,
        Operation.PLAN_SENT,
        Operation.PLAN_RECEIVED,
        Operation.PLAN_STORED,
        Operation.PLAN_PEAK,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One contender in one cell."""

    name: str
    role: Role
    stage: str = ""
    """Of a limit: what it is the limit of."""
    version: str = ""
    note: str = ""
    missing: str | None = None
    """Why there are no samples."""
    first: float | None = None
    """The very first operation of the process, which is not among the samples."""
    samples: tuple[float, ...] = ()
    fsync_s: tuple[float, ...] = ()
    """The part of each sample that went into an fsync which the harness added."""
    durable_s: tuple[float, ...] = ()
    """For each sample of a stall or of a loop: from the call until the save was complete and durable."""
    loops: tuple[LoopTrace, ...] = ()
    """Every run of a training loop, the first included."""
    rank_nbytes: tuple[int, ...] = ()
    """Bytes that each rank has written in the last save, where there are several."""
    equal: bool | None = None
    """Whether everything that came back was bit-equal; None where nothing comes back."""

    def later_loops(self) -> tuple[LoopTrace, ...]:
        """The runs that the samples are of: all but the first of the process."""
        return self.loops[1:]

    def without_figures(self, reason: str) -> Line:
        """The same contender, listed with the reason why it has no figures."""
        reason = _ABSOLUTE_PATH.sub("…/", reason)
        return replace(self, missing=reason, first=None, samples=(), fsync_s=(), durable_s=(), loops=(), equal=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One operation on one state by all contenders."""

    operation: Operation
    state: str
    device: str = "cpu"
    """Where the state lies."""
    nbytes: int
    n_tensors: int
    lines: tuple[Line, ...]

    def line(self, name: str) -> Line:
        """The line of contender `name`; one without figures where it took no part."""
        absent = Line(name=name, role=Role.NOTE, missing="it took no part")
        return next((line for line in self.lines if line.name == name), absent)

    def measured(self, *roles: Role) -> list[Line]:
        """The lines with samples, of these roles or of all."""
        return [line for line in self.lines if line.samples and (not roles or line.role in roles)]

    def gbps(self, line: Line) -> Spread:
        """GB/s (10⁹ bytes) of a measured line."""
        return Spread.of(self.nbytes / seconds / 1e9 for seconds in line.samples)

    def limit_s(self) -> tuple[float, ...]:
        """Seconds at the raw limit, round by round: the best of the limit lines in each.

        Bytes that take several stages are no faster than the slowest of them.
        """
        stages: dict[str, list[tuple[float, ...]]] = {}
        for line in self.measured(Role.LIMIT):
            stages.setdefault(line.stage, []).append(line.samples)
        best = [tuple(map(min, zip(*samples, strict=True))) for samples in stages.values()]
        return tuple(map(max, zip(*best, strict=True)))

    def best_peer(self) -> Line | None:
        """The peer with the least median."""
        peers = self.measured(Role.PEER)
        return min(peers, key=lambda line: Spread.of(line.samples).median) if peers else None

    def of_limit(self, line: Line) -> Spread | None:
        """The share of the raw limit that a measured line reaches."""
        limit = self.limit_s()
        return speed_ratio(line.samples, limit) if limit else None

    def times_limit(self, line: Line) -> Spread | None:
        """How many times as long as the raw limit a measured line takes."""
        limit = self.limit_s()
        return speed_ratio(limit, line.samples) if limit else None

    def of_best_peer(self, line: Line) -> Spread | None:
        """How many times as fast as the best peer a measured line is."""
        peer = self.best_peer()
        return speed_ratio(line.samples, peer.samples) if peer else None

    def rank_excess_percent(self, line: Line) -> float:
        """By how much the rank that writes most exceeds the one that writes least."""
        return (max(line.rank_nbytes) / min(line.rank_nbytes) - 1) * 100

    def rank_total_percent(self, line: Line) -> float:
        """What all ranks write together, of one copy of the state."""
        return sum(line.rank_nbytes) / self.nbytes * 100

    def us_per_tensor(self, line: Line) -> Spread:
        """Microseconds per tensor of a measured line, the bytes included."""
        return Spread.of(seconds / self.n_tensors * 1e6 for seconds in line.samples)

    def us_per_tensor_above_limit(self, line: Line) -> Spread | None:
        """The same less what the bytes alone take at the raw limit of the round."""
        limit = self.limit_s()
        if not limit:
            return None
        return Spread.of((own - raw) / self.n_tensors * 1e6 for own, raw in zip(line.samples, limit, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One case on one machine."""

    case: str
    title: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    cells: tuple[Cell, ...]

    def write(self, path: Path) -> None:
        """Writes the JSON, derived figures included."""
        tree = asdict(self)
        for cell, cell_tree in zip(self.cells, tree["cells"], strict=True):
            cell_tree["unit"] = cell.operation.unit
            for line, line_tree in zip(cell.lines, cell_tree["lines"], strict=True):
                line_tree["derived"] = _derived(cell, line)
        path.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Result:
        """Reads what `write` wrote."""
        tree = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**tree, "cells": tuple(_cell(cell) for cell in tree["cells"])})


def _derived(cell: Cell, line: Line) -> dict[str, Any]:
    if not line.samples:
        return {}
    figures: dict[str, Spread | None] = {"sample": Spread.of(line.samples)}
    if cell.operation is Operation.STALL:
        figures["times_limit"] = cell.times_limit(line)
    if line.loops:
        figures["stall_s"] = Spread.of(loop.stall_s for loop in line.later_loops())
        figures["undisturbed_s"] = Spread.of(loop.undisturbed_s for loop in line.later_loops())
    if cell.operation.is_rate:
        figures |= {
            "gbps": cell.gbps(line),
            "of_limit": cell.of_limit(line),
            "of_best_peer": cell.of_best_peer(line),
            "us_per_tensor": cell.us_per_tensor(line),
            "us_per_tensor_above_limit": cell.us_per_tensor_above_limit(line),
        }
    return {name: asdict(spread) for name, spread in figures.items() if spread}


def _cell(tree: dict[str, Any]) -> Cell:
    plain = {key: tree[key] for key in ("state", "device", "nbytes", "n_tensors") if key in tree}
    return Cell(operation=Operation(tree["operation"]), lines=tuple(map(_line, tree["lines"])), **plain)


def _line(tree: dict[str, Any]) -> Line:
    plain = {key: value for key, value in tree.items() if key != "derived"}
    lists = {key: tuple(plain.get(key, ())) for key in ("samples", "fsync_s", "durable_s", "rank_nbytes")}
    loops = tuple(LoopTrace(**{**loop, "step_s": tuple(loop["step_s"])}) for loop in plain.get("loops", ()))
    return Line(**{**plain, **lists, "loops": loops, "role": Role(plain["role"])})

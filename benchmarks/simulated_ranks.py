"""What ranks have to plan, hand in and put together in a take, without tensors' memory and without the ranks.

The code is that of a take, given what a capture would have found. A state has tensors of 16 MiB: spread over all
ranks by rows, as FSDP2 does it, or the same on all.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import torch

from benchmarks import memory
from sucrose.engine import CHUNK_NBYTES, get_engine
from sucrose.formats.index import FileRecord, SnapshotIndex, encode_index
from sucrose.formats.manifest import DictEntry
from sucrose.options import Options
from sucrose.ranks.lone_exchange import LoneExchange
from sucrose.snapshot.capture import CapturedState
from sucrose.snapshot.collective.merging import merged_files, merged_state_dict_metadata
from sucrose.snapshot.collective.parts import Part, gather_parts
from sucrose.snapshot.collective.share import in_manifest, keep_share
from sucrose.snapshot.flatten import FlatState
from sucrose.snapshot.plan import plan_data_files
from sucrose.snapshot.records import record_of
from sucrose.snapshot.sharding import Box, DTensorLayout, LocalShard, ShardedValue, shard_entries
from sucrose.snapshot.take_contents import CommitRecord
from sucrose.snapshot.tensors import Memory

if TYPE_CHECKING:
    from collections.abc import Iterable

ROWS, COLUMNS, ITEMSIZE = 4096, 1024, 4
TENSOR_NBYTES = ROWS * COLUMNS * ITEMSIZE
_KEY = "model"


@dataclass(frozen=True, slots=True)
class Simulation:
    """A take: how many ranks, of how many tensors, spread or replicated."""

    world_size: int
    n_tensors: int
    is_sharded: bool

    def names(self) -> list[str]:
        """Of the tensors."""
        return [f"layers.{index // 10}.feed_forward.weight_{index % 10}" for index in range(self.n_tensors)]

    def captured(self, rank: int, names: Iterable[str]) -> CapturedState:
        """What a capture finds of these tensors."""
        names = list(names)
        flat = FlatState()
        flat.entries[f"{rank}/{_KEY}"] = DictEntry(self.names())
        captured = CapturedState(flat, rank)
        rows = ROWS // self.world_size if self.is_sharded else ROWS
        local = torch.empty((rows, COLUMNS), device="meta")
        for index, name in enumerate(names):
            path = f"{rank}/{_KEY}/{name}"
            address = (index + 1) * TENSOR_NBYTES
            captured.dense[path] = Memory(address, rows * COLUMNS * ITEMSIZE, None, local, local.dtype)
            if self.is_sharded:
                box = Box((rank * rows, 0), (rows, COLUMNS))
                layout = DTensorLayout(list(range(self.world_size)), [[0], [-1]])
                shard = LocalShard(box, local)
                captured.sharded[path] = ShardedValue((ROWS, COLUMNS), local.dtype, (shard,), layout, (rank,))
                captured.shard_names[path] = (path,)
        return captured


class _Mailbox(LoneExchange):
    """The exchange of one of many ranks whose partners agree with it; keeps what is sent."""

    def __init__(self, rank: int, world_size: int, given: Iterable[bytes] = ()) -> None:
        self.rank, self.world_size = rank, world_size  # type: ignore[misc]
        self._given = list(given)
        self.sent: list[bytes] = []

    def gather(self, step: str, value: bytes) -> list[bytes] | None:  # type: ignore[override]  # noqa: ARG002
        self.sent.append(value)
        return [value, *self._given] if self.rank == 0 else None

    def gather_distinct(self, step: str, value: bytes) -> list[bytes] | None:  # type: ignore[override]  # noqa: ARG002
        self.sent.append(value)
        return [value] * self.world_size if self.rank == 0 else None

    def broadcast(self, step: str, value: bytes | None) -> bytes:  # noqa: ARG002
        return msgspec.msgpack.encode([]) if value is None else value


@dataclass(frozen=True, slots=True)
class RankPlan:
    """One rank's: how long it takes, and what it sends."""

    seconds: float
    described_nbytes: int
    """Of what it says to have replicated, which travels once for all."""
    handed_in_nbytes: int


def plan_rank(take: Simulation, rank: int) -> RankPlan:
    """What a rank that has captured its state does until its part is with rank 0; its files count as written."""
    captured = take.captured(rank, take.names())
    exchange = _Mailbox(rank, take.world_size)
    globs = () if take.is_sharded else ("**",)
    before = time.perf_counter()
    replicated = keep_share(
        captured, {}, globs, exchange=exchange, global_ranks=tuple(range(take.world_size)), engine=get_engine()
    )
    gather_parts(exchange, _part(captured, replicated))
    seconds = time.perf_counter() - before
    *described, handed_in = exchange.sent
    return RankPlan(seconds, sum(map(len, described)), len(handed_in))


def part_of(take: Simulation, rank: int, share: Iterable[str]) -> Part:
    """The part of a rank that has come to write these tensors."""
    captured = take.captured(rank, share)
    return _part(captured, frozenset() if take.is_sharded else frozenset(captured.dense))


def handed_in(take: Simulation, rank: int, part: Part) -> bytes:
    """A part as it travels."""
    exchange = _Mailbox(rank, take.world_size)
    gather_parts(exchange, part)
    return exchange.sent[0]


def _part(captured: CapturedState, replicated: frozenset[str]) -> Part:
    files, stored = plan_data_files(captured, Options())
    entries = in_manifest({**captured.flat.entries, **shard_entries(captured, stored)}, replicated)
    records = {}
    for file in files:
        nbytes = len(file.header) + sum(captured.dense[path].nbytes for path in file.paths)
        records[file.name] = FileRecord(nbytes, os.urandom(16 * -(-nbytes // CHUNK_NBYTES)).hex())
    numel = {path.partition("/")[2]: torch.Size(value.shape).numel() for path, value in captured.sharded.items()}
    return Part(entries, records, {}, numel)


@dataclass(frozen=True, slots=True)
class Merge:
    """What rank 0 makes of all parts."""

    seconds: float
    manifest_nbytes: int
    index_nbytes: int
    peak_nbytes: int


def merge(take: Simulation, own: Part, given: list[bytes]) -> Merge:
    """Decodes, merges, checks and encodes; the peak is above these parts, undecoded."""
    engine = get_engine()
    resident = memory.reset_peak()
    before = time.perf_counter()
    parts = gather_parts(_Mailbox(0, take.world_size, given), own)  # type: ignore[arg-type]
    assert parts is not None
    record = CommitRecord.of(parts)
    index = SnapshotIndex(
        format_version=1,
        writer="benchmarks",
        digest="xxh3-128",
        chunk_nbytes=CHUNK_NBYTES,
        metadata=record_of(record.encoded, engine, "xxh3-128"),
        files=merged_files(parts),
        state_dict_metadata=merged_state_dict_metadata(parts),
    )
    encoded = encode_index(index, engine.digest)
    seconds = time.perf_counter() - before
    return Merge(seconds, len(record.encoded), len(encoded), memory.peak_nbytes() - resident)

"""What of a captured state this rank writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sucrose.formats.manifest import ChunkedTensorEntry, Entry, ObjectEntry, PrimitiveEntry, TensorEntry
from sucrose.snapshot.capture import CapturedState, find_aliases
from sucrose.snapshot.collective.agreement import agree_on_replicated
from sucrose.snapshot.collective.assignment import HeldShards, writers_of_replicated, writers_of_shards
from sucrose.snapshot.collective.replicated_values import replicated_values
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.rng_state import RNGState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sucrose.engine import Engine
    from sucrose.ranks import Exchange


def keep_share(
    captured: CapturedState,
    app_state: Mapping[str, Any],
    globs: Sequence[str],
    *,
    exchange: Exchange,
    global_ranks: Sequence[int],
    engine: Engine,
) -> frozenset[str]:
    """Takes out of `captured` what other ranks write.

    Args:
        captured: all of this rank's state.
        app_state: what it was taken from.
        globs: of replicated values, the same on all ranks.
        exchange: the take.
        global_ranks: of its ranks, as meshes have them.
        engine: for digests.

    Returns:
        The paths, with this rank, of the replicated values that it writes.

    Raises:
        RankError: another rank has failed.
    """
    own = replicated_values(captured, app_state, globs, engine, global_ranks)
    generators = tuple(f"{encode_key(key)}/" for key, value in app_state.items() if isinstance(value, RNGState))
    replicated = agree_on_replicated(exchange, own, generators)
    writers = writers_of_replicated(replicated.values(), exchange.world_size)
    left_out = {f"{captured.rank}/{path}" for path, rank in writers.items() if rank != captured.rank}
    left_out |= _shards_of_others(captured, global_ranks)
    if left_out:
        _leave_out(captured, left_out)
    return frozenset(f"{captured.rank}/{path}" for path, rank in writers.items() if rank == captured.rank)


def in_manifest(entries: Mapping[str, Entry], replicated: frozenset[str]) -> dict[str, Entry]:
    """The entries as the manifest has them: replicated ones stand at rank 0, whoever has written them."""
    if not replicated:
        return dict(entries)
    return {
        f"0/{path.partition('/')[2]}" if path in replicated else path: _replicated(entry)
        if path in replicated
        else entry
        for path, entry in entries.items()
    }


def _shards_of_others(captured: CapturedState, global_ranks: Sequence[int]) -> set[str]:
    """Names of shards that another of their holders writes."""
    held = []
    members = frozenset(global_ranks)
    for path, value in captured.sharded.items():
        holders = tuple(rank for rank in value.holders if rank in members)
        names = captured.shard_names[path]
        if len(holders) > 1 and names and not any(name in captured.aliases for name in names):
            held.append(HeldShards(path, _nbytes(captured, names), holders))
    writers = writers_of_shards(held)
    own = global_ranks[captured.rank]
    left_out = {name for path, rank in writers.items() if rank != own for name in captured.shard_names[path]}
    shards = {name for names in captured.shard_names.values() for name in names}
    return left_out | {name for name, first in captured.aliases.items() if first in left_out and name in shards}


def _nbytes(captured: CapturedState, names: Iterable[str]) -> int:
    return sum(captured.dense[name].nbytes for name in names if name in captured.dense)


def _leave_out(captured: CapturedState, paths: set[str]) -> None:
    for values in (captured.dense, captured.pickled_tensors, captured.flat.entries, captured.dumped):
        for path in paths & values.keys():
            del values[path]
    captured.flat.objects = [(path, value) for path, value in captured.flat.objects if path not in paths]
    if captured.aliases:
        find_aliases(captured)


def _replicated(entry: Entry) -> Entry:
    if isinstance(entry, ChunkedTensorEntry):
        chunks = [
            msgspec.structs.replace(chunk, tensor=msgspec.structs.replace(chunk.tensor, replicated=True))
            for chunk in entry.chunks
        ]
        return msgspec.structs.replace(entry, chunks=chunks, replicated=True)
    assert isinstance(entry, (TensorEntry, ObjectEntry, PrimitiveEntry))
    return msgspec.structs.replace(entry, replicated=True)

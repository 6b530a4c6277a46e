"""Restoring statefuls in place.

1. match   every stateful's present state dict is walked beside the manifest; shapes, dtypes and
           keys are compared, and every mismatch is collected
2. read    only if all of them fit, on all ranks: one batch for all tensors, straight into their memory
3. load    load_state_dict() of each stateful; the random generators last

A mismatch therefore leaves everything as it was. Damaged bytes are found while they are read, when
some tensors have been overwritten already: that error says to restore an older snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sucrose.formats.manifest import SnapshotMetadata
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.collective.same_snapshot import agree_to_read
from sucrose.snapshot.entries import find_entry
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.reading import ReadBatch
from sucrose.snapshot.rng_state import RNGState
from sucrose.snapshot.sharding.templates import templates_of
from sucrose.snapshot.state_reader import Mismatch, StateReader
from sucrose.snapshot.tricks.ddp import DistributedDataParallelAdapter
from sucrose.snapshot.tricks.fsdp import FSDPOptimizerAdapter

if TYPE_CHECKING:
    from sucrose.ranks import Exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What a restore did.

    Attributes:
        statefuls: keys of the application state, in the order in which they were loaded.
        tensors: number of tensors read.
        nbytes: their bytes.
        seconds: wall time.
    """

    statefuls: tuple[str, ...]
    tensors: int
    nbytes: int
    seconds: float


def restore_app_state(
    app_state: Mapping[str, Any],
    metadata: SnapshotMetadata,
    reader: StateReader,
    batch: ReadBatch,
    *,
    strict: bool,
    snapshot_path: str,
    identity: bytes,
    exchange: Exchange,
) -> RestoreReport:
    """Restores a checked `app_state`, together with the other ranks of `exchange`; see the head of this file.

    `identity` tells the snapshot from others, which the ranks compare.

    Raises:
        RuntimeError: a key of `app_state` is not in the snapshot.
        StateMismatchError: shapes, dtypes or keys differ, or ranks see different snapshots; nothing was changed.
        RankError: another rank has failed.
    """
    started = time.perf_counter()
    app_state = {key: _bare(stateful) for key, stateful in app_state.items()}
    keys = sorted(app_state, key=lambda key: isinstance(app_state[key], RNGState))  # stable
    entries = {key: find_entry(metadata, f"{exchange.rank}/{encode_key(key)}") for key in keys}
    state_dicts: dict[str, Any] = {}
    with collector_paused():
        for key in keys:
            stateful = app_state[key]
            present = None if isinstance(stateful, RNGState) else _present(stateful)
            path = f"{exchange.rank}/{encode_key(key)}"
            if isinstance(stateful, torch.optim.Optimizer):
                reader.templates.update(templates_of(stateful, path))
            state_dicts[key] = reader.build_all(path, entries[key], present)
            reader.mismatches += _key_mismatches(path, stateful, present, state_dicts[key], strict)
            reader.mismatches += reader.must_not_remain(stateful, strict=strict)
            exchange.alive()
    reader.raise_mismatches(snapshot_path)
    agree_to_read(exchange, snapshot_path, identity)
    batch.read(exchange.alive)
    for key in keys:
        stateful = app_state[key]
        if isinstance(stateful, torch.nn.Module):
            stateful.load_state_dict(state_dicts[key], strict=strict)
        else:
            stateful.load_state_dict(state_dicts[key])
    exchange.agree("all is restored")
    return RestoreReport(
        statefuls=tuple(keys),
        tensors=reader.tensors,
        nbytes=batch.nbytes,
        seconds=time.perf_counter() - started,
    )


def _bare(stateful: Any) -> Any:
    return stateful.bare_module if isinstance(stateful, DistributedDataParallelAdapter) else stateful


def _present(stateful: Any) -> Any:
    """The state whose tensors are to be filled."""
    if isinstance(stateful, FSDPOptimizerAdapter):
        return stateful.state_dict_to_fill()
    return stateful.state_dict()


def _key_mismatches(path: str, stateful: Any, present: Any, saved: Any, strict: bool) -> list[Mismatch]:
    """What load_state_dict would refuse, found before anything is overwritten."""
    if isinstance(stateful, torch.nn.Module) and strict and isinstance(saved, Mapping):
        return [
            Mismatch(_child(path, key), f"{path!r} has {key!r}, which was not saved")
            for key in present
            if key not in saved
        ] + [
            Mismatch(_child(path, key), f"{path!r} has no {key!r}, which was saved")
            for key in saved
            if key not in present
        ]
    if isinstance(stateful, torch.optim.Optimizer):
        return _group_mismatches(path, present, saved)
    return []


def _child(path: str, key: int | str) -> str:
    return f"{path}/{encode_key(key)}"


def _group_mismatches(path: str, present: Any, saved: Any) -> list[Mismatch]:
    try:
        sizes = [len(group["params"]) for group in present["param_groups"]]
        saved_sizes = [len(group["params"]) for group in saved["param_groups"]]
    except (KeyError, TypeError):  # an optimizer with a format of its own
        return []
    if sizes == saved_sizes:
        return []
    return [Mismatch(path, f"{path!r} has parameter groups of {sizes} parameters, saved {saved_sizes}")]

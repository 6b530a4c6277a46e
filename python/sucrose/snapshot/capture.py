"""Taking the state of a program apart, before anything of it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sucrose.engine import Engine
from sucrose.errors import UnsupportedError
from sucrose.snapshot.flatten import FlatState, encode_key, flatten
from sucrose.snapshot.rng_state import RNGState
from sucrose.snapshot.sharding import ShardedValue, add_shards, sharded_value
from sucrose.snapshot.tensors import (
    Kind,
    Memory,
    is_picklable,
    kind_of,
    plain_memory,
    source_memory,
    without_spare_storage,
)

PrepareTensor = Callable[[str, torch.Tensor, bool], torch.Tensor]
"""(logical path without the rank, tensor, False) to the tensor that is saved in its place."""

RANK = 0
"""The one rank of a program that is alone."""


@dataclass(slots=True)
class CapturedState:
    """A state that is ready to be planned."""

    flat: FlatState
    rank: int = RANK
    """All paths begin with it."""
    dense: dict[str, Memory] = field(default_factory=dict)
    """Tensors to be written by their bytes, by logical path."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Tensors whose bytes are those of another path: tied weights are stored once."""
    pickled_tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    dumped: dict[str, bytes] = field(default_factory=dict)
    """Files of objects, as far as they were looked at already."""
    sharded: dict[str, ShardedValue] = field(default_factory=dict)
    """Tensors that are spread over ranks, by logical path; this rank's shards are among `dense`."""
    shard_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What the shards of each of them are called there, in their order."""


def capture(
    app_state: Mapping[str, Any], prepare: PrepareTensor | None, engine: Engine, rank: int = RANK
) -> CapturedState:
    """Takes the state dicts of a checked `app_state`, to be written by `engine`.

    The random generators' state comes first, and is set back to that at the end: state_dict()
    functions may draw from them.
    """
    flat = FlatState()
    rng = [(key, value) for key, value in app_state.items() if isinstance(value, RNGState)]
    others = [(key, value) for key, value in app_state.items() if not isinstance(value, RNGState)]
    generators = RNGState()
    before = generators.state_dict()
    try:
        for key, _ in rng:
            flatten(before, f"{rank}/{encode_key(key)}", flat)
        for key, stateful in others:
            flatten(stateful.state_dict(), f"{rank}/{encode_key(key)}", flat)
        captured = CapturedState(flat, rank)
        _sort_tensors(captured, prepare, engine)
    finally:
        generators.load_state_dict(before)
    return captured


def _sort_tensors(captured: CapturedState, prepare: PrepareTensor | None, engine: Engine) -> None:
    spread: list[tuple[str, ShardedValue]] = []
    for path, given in captured.flat.tensors:
        tensor = given if prepare is None else prepare(path.partition("/")[2], given, False)
        memory = plain_memory(tensor)
        if memory is None:
            value = sharded_value(tensor, path)
            if value is not None:
                spread.append((path, value))
                continue
            kind = kind_of(tensor, path)
            if kind is Kind.PICKLED:
                captured.pickled_tensors[path] = without_spare_storage(tensor)
                continue
            if kind is Kind.OBJECT:
                captured.flat.objects.append((path, tensor))
                continue
            memory = source_memory(tensor, engine)
        if memory.nbytes == 0 and is_picklable(tensor.dtype):  # torchsnapshot cannot read a range of no bytes
            captured.pickled_tensors[path] = torch.empty(tensor.shape, dtype=tensor.dtype)
            continue
        captured.dense[path] = memory
    for path, value in spread:  # last: their names depend on what others are called
        add_shards(captured, path, value, engine)
    addresses = {memory.address for memory in captured.dense.values()}
    if 0 in addresses:
        _refuse_freed(captured)
    if len(addresses) < len(captured.dense):
        find_aliases(captured)


def _refuse_freed(captured: CapturedState) -> None:
    for path, memory in captured.dense.items():
        if memory.address == 0 and memory.nbytes > 0:
            raise UnsupportedError(
                f"{path!r} has no memory any more, as after resize_(0) of its storage: save it before that, or gather "
                "it first",
                key=path,
            )


def find_aliases(captured: CapturedState) -> None:
    """Notes which of the dense tensors are the same bytes as another, which comes before them."""
    captured.aliases.clear()
    first_at: dict[object, str] = {}
    for path, memory in captured.dense.items():
        first = first_at.setdefault(_identity(memory), path)
        if first is not path:
            captured.aliases[path] = first


def _identity(memory: Memory) -> object:
    """Equal for tensors that are the same bytes in the same order."""
    if memory.strides is None:
        return memory.device, memory.address, memory.nbytes
    return memory.device, memory.address, memory.nbytes, memory.strides, memory.tensor.shape

"""Sharded values on their way into a snapshot.

Each shard is written like a tensor of its own, under a name of its own: the value's path, with the
offsets after it where a rank has several. Afterwards the entries of those names become one entry at the
path, which lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sucrose.errors import UnsupportedError
from sucrose.formats.manifest import ChunkedTensorEntry, DTensorEntry, Entry, Shard, ShardedTensorEntry, TensorEntry
from sucrose.snapshot.tensors import Kind, is_picklable, kind_of, plain_memory, source_memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sucrose.engine import Engine
    from sucrose.snapshot.capture import CapturedState
    from sucrose.snapshot.sharding.value import ShardedValue


def add_shards(captured: CapturedState, path: str, value: ShardedValue, engine: Engine) -> None:
    """Adds this rank's shards of the value at `path` to what may be written.

    Raises:
        UnsupportedError: the shards are no dense tensors.
    """
    captured.sharded[path] = value
    if 0 in value.shape:  # no rank has a shard, and yet there has to be one that tells shape and dtype
        nothing = torch.empty(value.shape, dtype=value.dtype)
        if is_picklable(value.dtype):
            captured.pickled_tensors[path] = nothing
        else:
            captured.dense[path] = source_memory(nothing, engine)
        captured.shard_names[path] = (path,)
        return
    names = []
    for shard in value.shards:
        name = path if len(value.shards) == 1 else f"{path}{list(shard.box.offsets)}".replace(" ", "")
        while name in captured.dense:  # somebody has named a tensor like that
            name += "'"
        memory = plain_memory(shard.tensor)
        if memory is None:
            if kind_of(shard.tensor, path) is not Kind.DENSE:
                raise UnsupportedError(
                    f"{path!r} is a {value.type_name} of {value.dtype} shards with the layout {shard.tensor.layout}: "
                    "only dense shards can be saved; gather it first",
                    key=path,
                )
            memory = source_memory(shard.tensor, engine)
        captured.dense[name] = memory
        names.append(name)
    captured.shard_names[path] = tuple(names)


def shard_entries(captured: CapturedState, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """`entries` with one entry for each sharded value in the place of those of its shards.

    Args:
        captured: what the entries belong to.
        entries: of all that this rank has written, pickled tensors included. A shard that is not among them was
            left to another of its holders.
    """
    result = dict(entries)
    for path, value in captured.sharded.items():
        written = [(name, result.pop(name)) for name in captured.shard_names[path] if name in result]
        if 0 in value.shape:
            places = {path: (0,) * len(value.shape)}
        else:
            places = dict(zip(captured.shard_names[path], (s.box.offsets for s in value.shards), strict=True))
        shards = [shard for name, entry in written for shard in _shards(entry, places[name])]
        if value.layout is not None:  # without shards, too: of several meshes it tells the rank's
            result[path] = DTensorEntry(shards, value.layout.mesh, value.layout.dim_map)
        elif shards:
            result[path] = ShardedTensorEntry(shards)
    return result


def _shards(entry: Entry, offsets: tuple[int, ...]) -> list[Shard]:
    """The manifest's shards of one that begins at `offsets`: several where it is listed in chunks."""
    if isinstance(entry, TensorEntry):
        return [Shard(list(offsets), entry.shape, entry)]
    assert isinstance(entry, ChunkedTensorEntry)
    return [
        Shard([at + begin for at, begin in zip(offsets, chunk.offsets, strict=True)], chunk.sizes, chunk.tensor)
        for chunk in entry.chunks
    ]

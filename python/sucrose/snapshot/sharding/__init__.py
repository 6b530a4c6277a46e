"""Tensors that are spread over ranks: what of them a rank holds, and which parts of files fill it.

Nothing here imports `torch.distributed`: a value that belongs to it has brought it along.
"""

from sucrose.snapshot.sharding.boxes import Box, Overlap, overlaps
from sucrose.snapshot.sharding.captured import add_shards, shard_entries
from sucrose.snapshot.sharding.value import DTensorLayout, LocalShard, ShardedValue, sharded_value

__all__ = [
    "Box",
    "DTensorLayout",
    "LocalShard",
    "Overlap",
    "ShardedValue",
    "add_shards",
    "overlaps",
    "shard_entries",
    "sharded_value",
]

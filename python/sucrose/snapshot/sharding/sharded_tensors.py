"""ShardedTensors: of FSDP1's sharded state dicts, and of embedding tables."""

from __future__ import annotations

from typing import Any

from sucrose.snapshot.sharding.boxes import Box
from sucrose.snapshot.sharding.value import LocalShard, ShardedValue


def value_of_sharded_tensor(tensor: Any) -> ShardedValue:
    """What this rank holds of a ShardedTensor: any number of shards, each on this rank alone."""
    shards = tuple(
        LocalShard(Box(tuple(shard.metadata.shard_offsets), tuple(shard.metadata.shard_sizes)), shard.tensor.detach())
        for shard in tensor.local_shards()
        if shard.tensor.numel()
    )
    metadata = tensor.metadata()  # the tensor's own properties warn that its type is deprecated
    return ShardedValue(tuple(metadata.size), metadata.tensor_properties.dtype, shards, None, (_rank(),))


def _rank() -> int:
    """Global rank of this process."""
    from torch import distributed

    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0

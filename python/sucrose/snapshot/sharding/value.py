"""What a rank holds of a tensor that is spread over ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from sucrose.snapshot.sharding.boxes import Box


@dataclass(frozen=True, slots=True)
class LocalShard:
    """A part that lies on this rank."""

    box: Box
    tensor: torch.Tensor
    """A plain tensor of the box's sizes: the memory of the program's own."""


@dataclass(frozen=True, slots=True)
class DTensorLayout:
    """How a DTensor is spread, as torchsnapshot's manifest has it."""

    mesh: Any
    """Global ranks, in lists that are nested as deeply as the mesh has dimensions."""
    dim_map: list[list[int]]
    """For each dimension of the tensor the mesh's dimensions that shard it, or [-1]."""


@dataclass(frozen=True, slots=True)
class ShardedValue:
    """What this rank holds of one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    shards: tuple[LocalShard, ...]
    """Without the empty ones."""
    layout: DTensorLayout | None
    """None for a ShardedTensor."""
    holders: tuple[int, ...]
    """Global ranks that hold exactly the same boxes, in the order of the mesh; this one is among them."""

    @property
    def type_name(self) -> str:
        """Name of the tensor's type."""
        return "ShardedTensor" if self.layout is None else "DTensor"


def sharded_value(tensor: torch.Tensor, key: str = "") -> ShardedValue | None:
    """What this rank holds of `tensor`; None for an ordinary tensor.

    Args:
        tensor: any.
        key: logical path, for messages.

    Raises:
        UnsupportedError: no rank has the value of a part: it is partial, or placed in an unknown way.
    """
    if not type(tensor).__module__.startswith("torch.distributed"):
        return _of_subclass(tensor, key)
    return _of_type(tensor, type(tensor), key)


def _of_subclass(tensor: torch.Tensor, key: str) -> ShardedValue | None:
    """Nearly all are none; types that somebody has derived have the original among their bases."""
    bases = type(tensor).__mro__
    if len(bases) <= _PLAIN_BASES:
        return None
    found = next((base for base in bases if base.__module__.startswith("torch.distributed")), None)
    return None if found is None else _of_type(tensor, found, key)


_PLAIN_BASES = 4
"""Of nn.Parameter: itself, Tensor, the tensor of torch._C, object."""


def _of_type(tensor: Any, kind: type, key: str) -> ShardedValue | None:
    if kind.__name__ == "DTensor":
        from sucrose.snapshot.sharding.dtensors import value_of_dtensor

        return value_of_dtensor(tensor, key)
    if kind.__name__ in ("ShardedTensor", "ShardedTensorBase"):
        from sucrose.snapshot.sharding.sharded_tensors import value_of_sharded_tensor

        return value_of_sharded_tensor(tensor)
    return None

"""Meshes of ranks that do not exist, and snapshots of them: for what one process can check by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
from bitwise import raw_bytes

from sucrose.snapshot.sharding.boxes import Box


@contextmanager
def as_rank(rank: int, world_size: int) -> Iterator[None]:
    """`torch.distributed` believes to be one of many ranks; its collectives do nothing."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world_size)
    try:
        yield
    finally:
        dist.destroy_process_group()


def spread(full: torch.Tensor, mesh_shape: Sequence[int], placements: Sequence[Any]) -> Any:
    """The DTensor that this rank has of `full`, cut by torch itself."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

    mesh = DeviceMesh("cpu", torch.arange(int(torch.tensor(mesh_shape).prod())).view(tuple(mesh_shape)))
    local = full
    for mesh_dim, placement in enumerate(placements):
        if not placement.is_replicate():
            parts, _ = placement._split_tensor(local, mesh_shape[mesh_dim], with_padding=False, contiguous=True)
            local = parts[mesh.get_coordinate()[mesh_dim]]
    return DTensor.from_local(local.clone(), mesh, placements, run_check=False, shape=full.shape, stride=full.stride())


def grid(shape: Sequence[int], cuts: Sequence[Sequence[int]]) -> list[Box]:
    """The boxes between the cuts along each dimension."""
    sides = []
    for size, of_dim in zip(shape, cuts, strict=True):
        edges = [0, *sorted(set(of_dim) - {0, size}), size]
        sides.append([(a, b - a) for a, b in pairwise(edges)])
    return [Box(tuple(a for a, _ in found), tuple(n for _, n in found)) for found in product(*sides)]


def region(tensor: torch.Tensor, box: Box) -> torch.Tensor:
    """A view of the box."""
    return tensor[tuple(slice(a, a + n) for a, n in zip(box.offsets, box.sizes, strict=True))]


def write_snapshot(folder: Path, tensors: dict[str, tuple[torch.Tensor, list[Box]]], world_size: int) -> None:
    """What torchsnapshot would have written of ShardedTensors with these boxes, which the ranks share out."""
    folder.mkdir()
    manifest: dict[str, Any] = {f"{rank}/state": {"type": "dict", "keys": list(tensors)} for rank in range(world_size)}
    for name, (full, boxes) in tensors.items():
        data = b""
        for rank in range(world_size):
            manifest[f"{rank}/state/{name}"] = {"type": "ShardedTensor", "shards": []}
        for number, box in enumerate(boxes):
            part = raw_bytes(region(full, box).contiguous())
            entry = {
                "type": "Tensor",
                "location": f"sharded/{name}",
                "serializer": "buffer_protocol",
                "dtype": str(full.dtype),
                "shape": list(box.sizes),
                "replicated": False,
                "byte_range": [len(data), len(data) + len(part)],
            }
            shard = {"offsets": list(box.offsets), "sizes": list(box.sizes), "tensor": entry}
            manifest[f"{number % world_size}/state/{name}"]["shards"].append(shard)
            data += part
        (folder / "sharded").mkdir(exist_ok=True)
        (folder / "sharded" / name).write_bytes(data)
    metadata = {"version": "0.1.0", "world_size": world_size, "manifest": manifest}
    (folder / ".snapshot_metadata").write_text(json.dumps(metadata))

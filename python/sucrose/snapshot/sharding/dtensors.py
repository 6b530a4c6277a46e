"""DTensors: of FSDP2, of tensor parallelism, and of both."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from sucrose.errors import UnsupportedError
from sucrose.snapshot.sharding.boxes import Box
from sucrose.snapshot.sharding.placements import Run, shard_of_runs, strided_shard_of_runs
from sucrose.snapshot.sharding.value import DTensorLayout, LocalShard, ShardedValue

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


def value_of_dtensor(tensor: Any, key: str) -> ShardedValue:
    """What this rank holds of a DTensor.

    Raises:
        UnsupportedError: a placement is partial or unknown, or the local tensor is not as large as they say.
    """
    mesh, placements = tensor.device_mesh, tensor.placements
    shape = tuple(tensor.shape)
    dim_map = _dim_map(tensor, key)
    layout = DTensorLayout(mesh.mesh.tolist(), [dims or [-1] for dims in dim_map])
    coordinate = mesh.get_coordinate()
    if coordinate is None:  # this rank is not in the mesh
        return ShardedValue(shape, tensor.dtype, (), layout, ())
    runs = _runs(shape, placements, tuple(mesh.mesh.shape), coordinate)
    local = _local_tensor(tensor)
    sizes = [sum(run.size for run in of_dim) for of_dim in runs]
    if list(local.shape) != sizes and 0 not in sizes:
        raise UnsupportedError(
            f"{key!r} is a DTensor of the shape {list(shape)} whose part on this rank has the shape "
            f"{list(local.shape)}, where {', '.join(map(str, placements))} on the mesh {layout.mesh} make {sizes}: "
            "redistribute it to Shard or Replicate placements first",
            key=key,
        )
    sharded = {dim for dims in dim_map for dim in dims}
    others = tuple(slice(None) if dim not in sharded else at for dim, at in enumerate(coordinate))
    holders = tuple(mesh.mesh[others].flatten().tolist())
    return ShardedValue(shape, tensor.dtype, _shards(runs, local), layout, holders)


def _dim_map(tensor: Any, key: str) -> list[list[int]]:
    """For each dimension of the tensor those of the mesh that shard it."""
    dim_map: list[list[int]] = [[] for _ in tensor.shape]
    for mesh_dim, placement in enumerate(tensor.placements):
        if placement.is_partial():
            raise UnsupportedError(
                f"{key!r} is a DTensor with the placement {placement}: its ranks hold terms of a value, not parts of "
                "it. Reduce it first, with redistribute(placements=[Replicate(), ...])",
                key=key,
            )
        if _is_shard(placement):
            dim_map[placement.dim].append(mesh_dim)
        elif not placement.is_replicate():
            raise UnsupportedError(
                f"{key!r} is a DTensor with the placement {placement}, which this release does not know: redistribute "
                "it to Shard or Replicate placements first",
                key=key,
            )
    return dim_map


def _is_shard(placement: Any) -> bool:
    """Whether it is Shard, or the strided one, which some releases derive from it and others do not."""
    return bool(placement.is_shard()) or type(placement).__name__ == "_StridedShard"


def _runs(
    shape: Sequence[int], placements: Sequence[Any], mesh_shape: Sequence[int], coordinate: Sequence[int]
) -> list[list[Run]]:
    """The elements of this rank along each dimension, in the order in which its local tensor has them."""
    runs = [[Run(0, size)] if size else [] for size in shape]
    for placement, count, index in zip(placements, mesh_shape, coordinate, strict=True):
        if not _is_shard(placement):
            continue
        split_factor = int(getattr(placement, "split_factor", 1))
        if split_factor > 1:
            runs[placement.dim] = strided_shard_of_runs(runs[placement.dim], split_factor, count, index)
        else:
            runs[placement.dim] = shard_of_runs(runs[placement.dim], count, index)
    return runs


def _shards(runs: Sequence[Sequence[Run]], local: torch.Tensor) -> tuple[LocalShard, ...]:
    """A shard for each choice of one run for each dimension: nearly always one."""
    starts = []  # of each run in the local tensor
    for of_dim in runs:
        ends = [sum(run.size for run in of_dim[: count + 1]) for count in range(len(of_dim))]
        starts.append([(end - run.size, run) for end, run in zip(ends, of_dim, strict=True)])
    shards = []
    for chosen in product(*starts):
        part = local
        for dim, (start, run) in enumerate(chosen):
            if run.size != local.shape[dim]:
                part = part.narrow(dim, start, run.size)
        box = Box(tuple(run.begin for _, run in chosen), tuple(run.size for _, run in chosen))
        if box.numel:
            shards.append(LocalShard(box, part))
    return tuple(shards)


def _local_tensor(tensor: Any) -> torch.Tensor:
    """That of this rank, outside of autograd, and arrived where a collective is filling it still."""
    local = tensor._local_tensor.detach()  # noqa: SLF001 - to_local() makes a node of autograd's graph
    wait = getattr(local, "wait", None)  # of AsyncCollectiveTensor
    return wait() if wait is not None else local  # type: ignore[no-any-return]  # a tensor

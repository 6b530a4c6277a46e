"""Filling the shards of the program's own tensors from the parts of a saved one, however either is spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sucrose.formats.manifest import TORCH_SAVE, Shard
from sucrose.snapshot.entries import check_parts
from sucrose.snapshot.sharding.boxes import Box, overlaps
from sucrose.snapshot.sharding.many_boxes import edges_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from sucrose.snapshot.reading import ReadBatch
    from sucrose.snapshot.sharding.value import ShardedValue

LoadPart = Callable[[Shard], "torch.Tensor"]
"""A part that is stored as a pickled tensor."""


def fill_shards(
    value: ShardedValue, dtype: str, parts: Sequence[Shard], batch: ReadBatch, load: LoadPart, path: str
) -> None:
    """Adds to `batch` what of `parts` lies in this rank's shards of `value`; only those parts are looked at.

    Args:
        value: what is to be filled; has the saved tensor's shape.
        dtype: of the parts, as manifests have it.
        parts: of the saved tensor.
        batch: reads them later.
        load: for the parts that are pickled.
        path: logical path, for messages.

    Raises:
        CorruptionError: parts are missing, overlap, or are not what they say.
    """
    edges = edges_of(path, parts)
    for shard in value.shards:
        near = [parts[index] for index in edges.touching(shard.box)]
        check_parts(path, dtype, value.shape, near, shard.box)
        boxes = [Box(tuple(part.offsets), tuple(part.sizes)) for part in near]
        for overlap in overlaps(shard.box, boxes):
            part = near[overlap.number]
            into = part_of(shard.tensor, overlap.box.within(shard.box))
            within = overlap.box.within(boxes[overlap.number])
            if part.tensor.serializer == TORCH_SAVE:
                batch.copy_afterwards(part_of(load(part), within), into)
            elif within.sizes == tuple(part.sizes):
                batch.add(part.tensor, into, path, fresh=False)
            else:
                batch.add_box(part.tensor, within, into, path)


def part_of(tensor: torch.Tensor, box: Box) -> torch.Tensor:
    """A view of the box in the tensor."""
    part = tensor.detach()
    for dim, (offset, size) in enumerate(zip(box.offsets, box.sizes, strict=True)):
        if size != part.shape[dim]:
            part = part.narrow(dim, offset, size)
    return part

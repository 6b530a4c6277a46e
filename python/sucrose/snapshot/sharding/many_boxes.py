"""The edges of all parts of a tensor at once: it may have one for each of a thousand ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from sucrose.errors import CorruptionError
from sucrose.formats.limits import MAX_DIMENSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sucrose.formats.manifest import Shard
    from sucrose.snapshot.sharding.boxes import Box


class Edges(NamedTuple):
    """Of boxes; a row for each of them, a column for each dimension."""

    begins: torch.Tensor
    ends: torch.Tensor

    def shape(self) -> list[int]:
        """Of the smallest tensor that has all of them."""
        return self.ends.amax(0).tolist()

    def touching(self, box: Box) -> list[int]:
        """Numbers of those that have elements of `box`."""
        begin = torch.tensor(box.offsets, dtype=torch.int64)
        end = begin + torch.tensor(box.sizes, dtype=torch.int64)
        found = ((self.begins < end) & (self.ends > begin)).all(1)
        return found.nonzero().flatten().tolist()


def edges_of(path: str, parts: Sequence[Shard]) -> Edges:
    """The edges of one part and more.

    Raises:
        CorruptionError: they have different numbers of dimensions, or lie where no tensor has elements.
    """
    try:
        begins = torch.tensor([part.offsets for part in parts], dtype=torch.int64)
        sizes = torch.tensor([part.sizes for part in parts], dtype=torch.int64)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CorruptionError(
            f"{path!r} has shards of different ranks, or impossible ones: {error}", key=path
        ) from error
    if begins.shape != sizes.shape:
        raise CorruptionError(f"{path!r} has shards of different ranks", key=path)
    for numbers in (begins, sizes):
        if numbers.numel() and not 0 <= int(numbers.min()) <= int(numbers.max()) <= MAX_DIMENSION:
            raise CorruptionError(f"{path!r} has shards where no tensor has elements", key=path)
    return Edges(begins, begins + sizes)

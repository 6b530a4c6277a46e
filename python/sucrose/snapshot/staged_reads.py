"""Reading what the engine cannot put in its place: through temporary memory, a block at a time.

That is a box with another dtype than its file, or on a device that the engine does not reach, or with so
many short rows that it is quicker to read what lies between them as well. However large the tensor,
the temporary memory of all reads under way is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sucrose.snapshot.regions import Piece, row_major
from sucrose.snapshot.tensors import Memory, empty_like_entry

if TYPE_CHECKING:
    from sucrose.engine import ReadResult, ReadTicket

BLOCK_NBYTES = 16 << 20
"""Of one block; a single row may be larger only where it is one element."""

MAX_STAGED_NBYTES = 128 << 20
"""Of all blocks that are under way."""


@dataclass(frozen=True, slots=True)
class StagedBlock:
    """A stretch of a file, and the box of which it has the elements, with others between them."""

    location: str
    begin: int
    nbytes: int
    dtype: torch.dtype
    strides: tuple[int, ...]
    """Of the box in the file, in elements."""
    into: torch.Tensor
    key: str

    def piece(self, memory: Memory) -> Piece:
        """The stretch as it is read into temporary memory."""
        return Piece(self.begin, memory, self.key)

    def temporary(self) -> torch.Tensor:
        """Memory for it. Raises StorageError where there is none (ENOMEM)."""
        return empty_like_entry(self.dtype, [self.nbytes // self.dtype.itemsize], self.key)

    def copy(self, temporary: torch.Tensor) -> None:
        """Puts the elements in their places."""
        with torch.no_grad():
            self.into.copy_(temporary.as_strided(self.into.shape, self.strides))


def blocks_of_box(
    location: str, begin: int, box_strides: Sequence[int], dtype: torch.dtype, into: torch.Tensor, key: str
) -> Iterator[StagedBlock]:
    """Blocks of at most `BLOCK_NBYTES`, which make up the box, in file order.

    Args:
        location: of the file.
        begin: of the box's first element, in the file.
        box_strides: of the box in the file, in bytes.
        dtype: in the file.
        into: where the box goes to; has its shape.
        key: logical path, for messages.
    """
    itemsize = dtype.itemsize
    steps = zip(into.shape, box_strides, strict=True)
    nbytes = sum((size - 1) * stride for size, stride in steps) + itemsize
    if nbytes <= BLOCK_NBYTES or into.numel() == 1:
        strides = tuple(stride // itemsize for stride in box_strides)
        yield StagedBlock(location, begin, nbytes, dtype, strides, into, key)
        return
    dim = next(dim for dim, size in enumerate(into.shape) if size > 1)
    size, stride = into.shape[dim], box_strides[dim]
    of_one = nbytes - (size - 1) * stride
    step = max(1, (BLOCK_NBYTES - of_one) // stride + 1) if of_one <= BLOCK_NBYTES else 1
    for first in range(0, size, step):
        part = into.narrow(dim, first, min(step, size - first))
        yield from blocks_of_box(location, begin + first * stride, box_strides, dtype, part, key)


def blocks_of_tensor(
    location: str, begin: int, dtype: torch.dtype, into: torch.Tensor, key: str
) -> Iterator[StagedBlock]:
    """The same for all of a tensor that lies in its file without gaps."""
    return blocks_of_box(location, begin, row_major(into.shape, dtype.itemsize), dtype, into, key)


class StagedRead:
    """The ticket of a block; waiting for it puts the elements in their places."""

    def __init__(self, ticket: ReadTicket, block: StagedBlock, temporary: torch.Tensor) -> None:
        self.nbytes = block.nbytes
        self._ticket = ticket
        self._block = block
        self._temporary: torch.Tensor | None = temporary

    def progress(self) -> tuple[int, int]:
        """Bytes done and bytes in all."""
        return self._ticket.progress()

    def cancel(self) -> None:
        """Starts no further chunk, and copies nothing."""
        self._temporary = None
        self._ticket.cancel()

    def wait(self, timeout_s: float | None = None) -> ReadResult:
        """Blocks until the elements are in their places, unless the bytes are corrupt."""
        result = self._ticket.wait(timeout_s)
        temporary, self._temporary = self._temporary, None
        if temporary is not None and not result.corrupt:
            self._block.copy(temporary)
        return result


def submitted(
    blocks: Iterable[StagedBlock], submit: Callable[[StagedBlock, torch.Tensor], ReadTicket]
) -> Iterator[Any]:
    """Tickets of the blocks, each submitted when there is room for its temporary memory."""
    under_way: deque[StagedRead] = deque()
    nbytes = 0
    for block in blocks:
        while under_way and nbytes + block.nbytes > MAX_STAGED_NBYTES:
            oldest = under_way.popleft()
            oldest.wait()
            nbytes -= oldest.nbytes
        temporary = block.temporary()
        read = StagedRead(submit(block, temporary), block, temporary)
        under_way.append(read)
        nbytes += block.nbytes
        yield read

"""Where tensors are cut into pieces, each of which is written or referred to as a whole: pure functions.

A piece is whole rows, as many as fit into one chunk of a file, and one at least. Rows are those of the first
dimension that has more than one; a tensor without any is one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sucrose.engine import CHUNK_NBYTES


class Rows(NamedTuple):
    """A tensor as a sequence of rows."""

    dim: int
    number: int
    nbytes: int
    """Of one."""

    @property
    def per_piece(self) -> int:
        """Rows in each piece but the last, which may be shorter."""
        return max(1, CHUNK_NBYTES // self.nbytes)

    @property
    def piece_nbytes(self) -> int:
        """Bytes of each piece but the last."""
        return self.per_piece * self.nbytes


def rows_of(shape: Sequence[int], nbytes: int, *, is_whole: bool = False) -> Rows:
    """The rows of a tensor of `nbytes` (more than 0); a single one where it has to stay whole."""
    dim = next((dim for dim, size in enumerate(shape) if size > 1), None)
    if dim is None or is_whole:
        return Rows(0, 1, nbytes)
    return Rows(dim, shape[dim], nbytes // shape[dim])

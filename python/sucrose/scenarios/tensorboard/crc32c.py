"""CRC-32C of many short pieces side by side, masked as TFRecord files have it.

Polynomial and mask: https://github.com/google/crc32c and tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected
_MASK_DELTA = 0xA282EAD8


@cache
def _table() -> NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return table


def masked_crc32c(data: bytes, offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint32]:
    """One checksum for each piece of `data`.

    Takes one pass over all pieces for each byte of the longest one, so many short pieces cost little.

    Args:
        data: what the pieces are in.
        offsets: where they begin.
        lengths: how many bytes they have.

    Example:
        >>> import numpy as np
        >>> hex(masked_crc32c(b"123456789", np.array([0]), np.array([9]))[0])
        '0xc78ab0e5'
    """
    source = np.frombuffer(data, np.uint8)
    table = _table()
    longest_first = np.argsort(-lengths, kind="stable")
    starts = offsets[longest_first]
    ascending = lengths[longest_first][::-1]
    states = np.full(len(lengths), 0xFFFFFFFF, np.uint32)
    for column in range(int(lengths.max(initial=0))):
        n_active = len(lengths) - int(np.searchsorted(ascending, column, side="right"))
        active = states[:n_active]
        active[:] = table[(active ^ source[starts[:n_active] + column]) & 0xFF] ^ (active >> 8)
    crcs = ~states
    result = np.empty_like(crcs)
    result[longest_first] = ((crcs >> 15) | (crcs << 17)) + np.uint32(_MASK_DELTA)
    return result

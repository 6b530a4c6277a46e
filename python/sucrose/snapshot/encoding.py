"""Which byte-group filter suits each chunk of a data file."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

import torch

from sucrose.compression import Compression
from sucrose.engine import CHUNK_NBYTES, Encoding

_ENTROPY_ONLY = 0  # as `Encoding.level`
_ZSTD_USUAL_LEVEL = 3  # what zstd itself takes level 0 for
_GROUPABLE = (2, 4, 8)  # bytes of an item


def group_nbytes(dtype: torch.dtype) -> int:
    """Size of the items that the filter splits tensors of `dtype` into; 0 where there is nothing to split."""
    itemsize = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    return itemsize if itemsize in _GROUPABLE else 0


def encoding_of(compression: Compression, header_nbytes: int, tensors: Iterable[tuple[int, int]]) -> Encoding:
    """How a data file is encoded.

    Args:
        compression: what was asked for.
        header_nbytes: at the beginning of the file, before the tensors.
        tensors: (`group_nbytes`, size in bytes) of each tensor, in file order.
    """
    level = _ENTROPY_ONLY if compression.level is None else compression.level or _ZSTD_USUAL_LEVEL
    groups = _groups(header_nbytes, tensors) if compression.filter == "bytegroup" else b""
    return Encoding(level=level, groups=groups, adaptive=compression.adaptive)


def _groups(header_nbytes: int, tensors: Iterable[tuple[int, int]]) -> bytes:
    """For each chunk the item size that most of its bytes have.

    Tensors begin at multiples of their item size, so a chunk that lies inside one begins with an item.
    """
    chunks: list[dict[int, int]] = []
    begin = 0
    for size, run in groupby(((0, header_nbytes), *tensors), key=itemgetter(0)):
        end = begin + sum(nbytes for _, nbytes in run)
        while begin < end:
            index = begin // CHUNK_NBYTES
            if index == len(chunks):
                chunks.append({})
            until = min(end, (index + 1) * CHUNK_NBYTES)
            chunks[index][size] = chunks[index].get(size, 0) + until - begin
            begin = until
    return bytes(max(sizes, key=sizes.__getitem__) for sizes in chunks)

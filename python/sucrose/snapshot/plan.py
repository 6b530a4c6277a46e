"""Which tensor goes where: pure functions over names and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sucrose.formats.safetensors import MAX_HEADER_NBYTES, HeaderEntry, entry_nbytes_bound

_HEADER_BUDGET_NBYTES = MAX_HEADER_NBYTES * 9 // 10


def order_by_alignment(itemsizes: Sequence[int]) -> list[int]:
    """Indices in file order: larger items first, so that every tensor begins at a multiple of its
    item size; otherwise as they came."""
    indices = list(range(len(itemsizes)))
    if len(set(itemsizes)) > 1:
        indices.sort(key=itemsizes.__getitem__, reverse=True)
    return indices


def split_into_files(entries: Sequence[HeaderEntry], *, max_file_nbytes: int) -> list[list[HeaderEntry]]:
    """Cuts the sequence where a file would grow past `max_file_nbytes` or its header too long.

    A tensor that is larger by itself gets a file of its own; tensors are never cut.
    """
    files: list[list[HeaderEntry]] = []
    current: list[HeaderEntry] = []
    file_nbytes = header_nbytes = 0
    for entry in entries:
        header_cost = entry_nbytes_bound(entry.name, len(entry.shape))
        if current and (
            file_nbytes + entry.nbytes > max_file_nbytes or header_nbytes + header_cost > _HEADER_BUDGET_NBYTES
        ):
            files.append(current)
            current = []
            file_nbytes = header_nbytes = 0
        current.append(entry)
        file_nbytes += entry.nbytes
        header_nbytes += header_cost
    if current:
        files.append(current)
    return files


class RowRange(NamedTuple):
    """Rows [begin, end) of a tensor's first dimension."""

    begin: int
    end: int


def split_rows(shape: Sequence[int], nbytes: int, max_nbytes: int) -> list[RowRange]:
    """Pieces of at most `max_nbytes`, at least one row each; all of it where 0 or not cuttable."""
    if max_nbytes <= 0 or nbytes <= max_nbytes or not shape or shape[0] < 2:
        return []
    rows = max(1, max_nbytes * shape[0] // nbytes)
    return [RowRange(begin, min(begin + rows, shape[0])) for begin in range(0, shape[0], rows)]

"""Which tensor goes where: pure functions over names and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sucrose.formats.safetensors import MAX_HEADER_NBYTES, HeaderEntry, entry_nbytes_bound

_HEADER_BUDGET_NBYTES = MAX_HEADER_NBYTES * 9 // 10


def order_by_alignment(itemsizes: Sequence[int]) -> list[int]:
    """Indices in file order: larger items first, otherwise as they came.

    Every tensor then begins at a multiple of its item size.
    """
    indices = list(range(len(itemsizes)))
    if len(set(itemsizes)) > 1:
        indices.sort(key=itemsizes.__getitem__, reverse=True)
    return indices


def split_into_files(entries: Sequence[HeaderEntry], *, max_file_nbytes: int) -> list[Sequence[HeaderEntry]]:
    """Cuts the sequence where a file would grow past `max_file_nbytes` or its header too long.

    A tensor that is larger by itself gets a file of its own; tensors are never cut.
    """
    header_costs = [entry_nbytes_bound(entry) for entry in entries]
    if not entries or (
        sum([entry.nbytes for entry in entries]) <= max_file_nbytes and sum(header_costs) <= _HEADER_BUDGET_NBYTES
    ):
        return [entries] if entries else []
    begins = [0]
    file_nbytes = header_nbytes = 0
    for index, entry in enumerate(entries):
        if index > begins[-1] and (
            file_nbytes + entry.nbytes > max_file_nbytes or header_nbytes + header_costs[index] > _HEADER_BUDGET_NBYTES
        ):
            begins.append(index)
            file_nbytes = header_nbytes = 0
        file_nbytes += entry.nbytes
        header_nbytes += header_costs[index]
    return [entries[a:b] for a, b in zip(begins, [*begins[1:], len(entries)], strict=True)]


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

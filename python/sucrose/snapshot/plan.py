"""Which tensor goes where: pure functions, nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sucrose.formats.manifest import BUFFER_PROTOCOL, ChunkedTensorEntry, Entry, Shard, TensorEntry
from sucrose.formats.safetensors import MAX_HEADER_NBYTES, HeaderEntry, encode_header, entry_nbytes_bound
from sucrose.options import Options
from sucrose.snapshot.capture import RANK, CapturedState
from sucrose.snapshot.tensors import DTYPE_NAMES

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


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file to be written: its header, then the tensors at `paths`, one after another."""

    name: str
    header: bytes
    paths: list[str] = field(default_factory=list)


def plan_data_files(captured: CapturedState, options: Options) -> tuple[list[DataFile], dict[str, Entry]]:
    """The data files, and the manifest's entries of all dense tensors."""
    dense, aliases = captured.dense, captured.aliases
    paths = [path for path in dense if path not in aliases] if aliases else list(dense)
    order = order_by_alignment([dense[path].tensor.element_size() for path in paths])
    prefix = len(f"{RANK}/")
    headers = []
    for index in order:
        path = paths[index]
        memory = dense[path]
        tensor = memory.tensor
        headers.append(HeaderEntry(path[prefix:], DTYPE_NAMES[tensor.dtype], list(tensor.shape), memory.nbytes))
    entries: dict[str, Entry] = {}
    places: dict[str, tuple[str, int]] = {}
    files: list[DataFile] = []
    for chosen in split_into_files(headers, max_file_nbytes=options.max_file_nbytes):
        location = f"data/{RANK}_{len(files)}.safetensors"
        file = DataFile(location, encode_header(chosen))
        files.append(file)
        begin = len(file.header)
        for header in chosen:
            path = f"{RANK}/{header.name}"
            file.paths.append(path)
            places[path] = (location, begin)
            entries[path] = _tensor_entry(
                location, begin, header.dtype, header.shape, header.nbytes, options.max_chunk_nbytes
            )
            begin += header.nbytes
    for path, first in aliases.items():
        tensor = dense[path].tensor
        location, begin = places[first]
        entries[path] = _tensor_entry(
            location,
            begin,
            DTYPE_NAMES[tensor.dtype],
            list(tensor.shape),
            dense[path].nbytes,
            options.max_chunk_nbytes,
        )
    return files, entries


def _tensor_entry(location: str, begin: int, dtype: str, shape: list[int], nbytes: int, max_chunk_nbytes: int) -> Entry:
    pieces = split_rows(shape, nbytes, max_chunk_nbytes) if max_chunk_nbytes else None
    if not pieces:
        return TensorEntry(location, BUFFER_PROTOCOL, dtype, shape, False, (begin, begin + nbytes))
    row_nbytes = nbytes // shape[0]
    chunks = []
    for first, last in pieces:
        sizes = [last - first, *shape[1:]]
        byte_range = (begin + first * row_nbytes, begin + last * row_nbytes)
        part = TensorEntry(location, BUFFER_PROTOCOL, dtype, sizes, False, byte_range)
        chunks.append(Shard([first, *([0] * (len(shape) - 1))], sizes, part))
    return ChunkedTensorEntry(dtype, shape, chunks, False)

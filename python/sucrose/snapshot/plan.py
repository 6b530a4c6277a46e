"""Which tensor goes where: pure functions, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import msgspec

from sucrose.compression import Compression
from sucrose.engine import Encoding
from sucrose.formats.limits import MAX_HEADER_NBYTES
from sucrose.formats.manifest import (
    BUFFER_PROTOCOL,
    BUFFER_PROTOCOL_ZSTD,
    ChunkedTensorEntry,
    Entry,
    Shard,
    TensorEntry,
)
from sucrose.formats.safetensors import HeaderEntry, encode_header, entry_nbytes_bound
from sucrose.options import Options
from sucrose.snapshot.capture import CapturedState
from sucrose.snapshot.encoding import encoding_of, group_nbytes
from sucrose.snapshot.tensors import DTYPE_NAMES, ITEMSIZES, Memory

MAX_OBJECT_NBYTES = 1 << 30
"""Of data files in object stores, unless a tensor is larger: what fails there begins again with a file."""

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
    paths: list[str]
    encoding: Encoding | None


def plan_data_files(
    captured: CapturedState, options: Options, compression: Compression | None = None, tag: str = ""
) -> tuple[list[DataFile], dict[str, Entry]]:
    """The data files, and the manifest's entries of all dense tensors.

    With the `tag` of a take to an object store it is in the names of the files, and these are smaller.
    """
    dense, aliases = captured.dense, captured.aliases
    paths = [path for path in dense if path not in aliases] if aliases else list(dense)
    paths = [paths[index] for index in order_by_alignment([ITEMSIZES[dense[path].dtype] for path in paths])]
    prefix = len(f"{captured.rank}/")  # of a path; names in data files have none
    headers = [_header_entry(path[prefix:], dense[path]) for path in paths]
    entries: dict[str, Entry] = {}
    files: list[DataFile] = []
    remaining = iter(paths)
    folder = f"data/{tag}" if tag else "data"
    max_file_nbytes = min(options.max_file_nbytes, MAX_OBJECT_NBYTES) if tag else options.max_file_nbytes
    for chosen in split_into_files(headers, max_file_nbytes=max_file_nbytes):
        name = f"{folder}/{captured.rank}_{len(files)}.safetensors"
        file = _data_file(name, chosen, list(islice(remaining, len(chosen))), dense, compression)
        files.append(file)
        serializer = BUFFER_PROTOCOL if compression is None else BUFFER_PROTOCOL_ZSTD
        begin = len(file.header)
        for path, header in zip(file.paths, chosen, strict=True):
            end = begin + header.nbytes
            entries[path] = TensorEntry(file.name, serializer, header.dtype, header.shape, False, (begin, end))
            begin = end
    for path, first in aliases.items():
        header = _header_entry(path[prefix:], dense[path])
        stored = entries[first]
        assert isinstance(stored, TensorEntry)
        entries[path] = msgspec.structs.replace(stored, dtype=header.dtype, shape=header.shape)
    if options.max_chunk_nbytes:
        entries = {path: _in_chunks(entry, options.max_chunk_nbytes) for path, entry in entries.items()}
    return files, entries


def _data_file(
    name: str,
    headers: Sequence[HeaderEntry],
    paths: list[str],
    dense: Mapping[str, Memory],
    compression: Compression | None,
) -> DataFile:
    header = encode_header(headers)
    if compression is None:
        return DataFile(name, header, paths, None)
    tensors = [(group_nbytes(dense[path].dtype), dense[path].nbytes) for path in paths]
    return DataFile(f"{name}.zst", header, paths, encoding_of(compression, len(header), tensors))


def _header_entry(name: str, memory: Memory) -> HeaderEntry:
    return HeaderEntry(name, DTYPE_NAMES[memory.dtype], list(memory.tensor.shape), memory.nbytes)


def _in_chunks(entry: Entry, max_chunk_nbytes: int) -> Entry:
    """The same bytes, listed in pieces where they are more than `max_chunk_nbytes`."""
    assert isinstance(entry, TensorEntry)
    assert entry.byte_range is not None
    begin, end = entry.byte_range
    pieces = split_rows(entry.shape, end - begin, max_chunk_nbytes)
    if not pieces:
        return entry
    row_nbytes = (end - begin) // entry.shape[0]
    chunks = []
    for first, last in pieces:
        sizes = [last - first, *entry.shape[1:]]
        byte_range = (begin + first * row_nbytes, begin + last * row_nbytes)
        part = msgspec.structs.replace(entry, shape=sizes, byte_range=byte_range)
        chunks.append(Shard([first, *([0] * (len(sizes) - 1))], sizes, part))
    return ChunkedTensorEntry(entry.dtype, entry.shape, chunks, False)

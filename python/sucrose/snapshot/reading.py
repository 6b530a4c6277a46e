"""Reading tensors: from pieces of files into memory, in as few requests as there are files.

A `ReadBatch` collects what is wanted, then reads it at once. Pieces go straight into the tensors'
memory where the engine can write there; where it cannot (a device that it does not reach, another
dtype) they go through temporary memory, a block at a time, and `Tensor.copy_`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from heapq import heappush, heapreplace
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sucrose.engine import CHUNK_NBYTES, CorruptChunk, Engine, ReadTicket
from sucrose.errors import CorruptionError
from sucrose.formats.index import DIGEST_NAME, FileRecord, SnapshotIndex
from sucrose.formats.limits import MAX_READS_OF_BASE
from sucrose.formats.manifest import TensorEntry
from sucrose.snapshot.chunk_damage import chunk_damage
from sucrose.snapshot.progress import wait_showing_progress
from sucrose.snapshot.records import stored_chunks
from sucrose.snapshot.regions import (
    MIN_ROW_NBYTES,
    Piece,
    Rows,
    extents_of_regions,
    grouped,
    row_major,
    rows_of_box,
)
from sucrose.snapshot.remote.sizes import Sizes
from sucrose.snapshot.staged_reads import StagedBlock, blocks_of_box, blocks_of_tensor, submitted
from sucrose.snapshot.tensors import (
    DTYPES,
    ITEMSIZES,
    Memory,
    destination_memory,
    extents_of,
)
from sucrose.snapshot.transfers import begin_read
from sucrose.storage import Directory

if TYPE_CHECKING:
    from sucrose.snapshot.sharding import Box

_FEW_ROWS = 1 << 16
"""That are listed even where they are short."""


class _Request(NamedTuple):
    location: str
    pieces: list[Piece | Rows]
    file_nbytes: int
    record: FileRecord | None


class ReadBatch:
    """Pieces of the files of one snapshot, to be read together. Not thread-safe."""

    def __init__(
        self,
        storage: Directory,
        index: SnapshotIndex | None,
        engine: Engine,
        *,
        verify: bool,
        show_progress: bool | None,
        max_inflight_nbytes: int = 0,
    ) -> None:
        self._storage = storage
        self._sizes = Sizes(storage)
        self._index = index
        self._engine = engine
        self._verify = verify
        self._show_progress = show_progress
        self._max_inflight_nbytes = max_inflight_nbytes
        self._pieces: dict[str, list[Piece | Rows]] = {}
        self._staged: list[Iterator[StagedBlock]] = []
        self._afterwards: list[Callable[[], object]] = []
        self._only_fresh = True
        self._unclaimed: dict[str, int] = {}
        """Bytes of each file for which no memory was allocated so far."""
        self.nbytes = 0

    def expect(self, entry: TensorEntry, nbytes: int, key: str) -> None:
        """Says that memory will be allocated for a tensor that is to be read.

        Args:
            entry: passed `check_tensor_entry`.
            nbytes: of its elements.
            key: logical path, for messages.

        Raises:
            CorruptionError: its file is too short to hold it besides all that were expected before.
            OSError: the file cannot be examined.
        """
        location = entry.location
        record = self._record(location)
        begin = 0 if entry.byte_range is None else entry.byte_range[0]
        file_nbytes = self._file_nbytes(location, record, needed=begin + nbytes, key=key)
        # What was tied in a base, and is not any more, may still be read from the same bytes, whole or in parts.
        times = MAX_READS_OF_BASE if location.startswith("../") else 1
        unclaimed = self._unclaimed.get(location, times * file_nbytes) - nbytes
        if unclaimed < 0:
            path = self._storage.path_of(location)
            raise CorruptionError(
                f"{path} has {file_nbytes} bytes, and the manifest finds more than that in it, up to {key!r}: its byte "
                "ranges overlap",
                path=path,
                key=key,
                offset=begin,
            )
        self._unclaimed[location] = unclaimed

    def add(self, entry: TensorEntry, into: torch.Tensor, key: str, *, fresh: bool) -> None:
        """Reads the bytes of `entry`, which has `into`'s shape, into that tensor.

        Args:
            entry: has `buffer_protocol`, and passed `check_entry`.
            into: any device and strides; a dtype other than the entry's is cast to.
            key: logical path, for messages.
            fresh: nothing has touched the tensor's memory yet.
        """
        if into.numel() == 0:
            return
        dtype = DTYPES[entry.dtype]
        memory = destination_memory(into, self._engine) if into.dtype == dtype else None
        if memory is None:
            begin = 0 if entry.byte_range is None else entry.byte_range[0]
            self._staged.append(blocks_of_tensor(entry.location, begin, dtype, into.detach(), key))
            self.nbytes += into.numel() * ITEMSIZES[dtype]
        else:
            self.add_memory(entry, memory, key, fresh=fresh)

    def add_box(self, entry: TensorEntry, box: Box, into: torch.Tensor, key: str) -> None:
        """Reads a part of `entry`, into a tensor that has the part's shape.

        Args:
            entry: has `buffer_protocol`, and passed `check_entry`.
            box: within the entry's tensor; not empty.
            into: as for `add`.
            key: logical path, for messages.
        """
        dtype = DTYPES[entry.dtype]
        strides = row_major(entry.shape, ITEMSIZES[dtype])
        begin = 0 if entry.byte_range is None else entry.byte_range[0]
        begin += sum(offset * stride for offset, stride in zip(box.offsets, strides, strict=True))
        self.nbytes += into.numel() * ITEMSIZES[dtype]
        memory = destination_memory(into, self._engine) if into.dtype == dtype else None
        if memory is not None:
            found = rows_of_box(begin, strides, memory, key)
            if isinstance(found, Piece) or found.row_nbytes >= MIN_ROW_NBYTES or found.count <= _FEW_ROWS:
                self._add(entry.location, found, fresh=False)
                return
        self._staged.append(blocks_of_box(entry.location, begin, strides, dtype, into.detach(), key))

    def add_memory(self, entry: TensorEntry, memory: Memory, key: str, *, fresh: bool) -> None:
        """Like `add`, for memory that takes the bytes as they are."""
        begin = 0 if entry.byte_range is None else entry.byte_range[0]
        self._add(entry.location, Piece(begin, memory, key), fresh=fresh)
        self.nbytes += memory.nbytes

    def _add(self, location: str, piece: Piece | Rows, *, fresh: bool) -> None:
        pieces = self._pieces.get(location)
        if pieces is None:
            self._pieces[location] = [piece]
        else:
            pieces.append(piece)
        self._only_fresh &= fresh

    def copy_afterwards(self, loaded: torch.Tensor, into: torch.Tensor) -> None:
        """Copies a tensor that is in memory already into `into`, when the rest is read."""
        self._afterwards.append(lambda: into.copy_(loaded))

    def read(self, alive: Callable[[], None] = lambda: None) -> None:
        """Reads everything that was added.

        Raises:
            CorruptionError: bytes differ from what was saved; names the tensor, file and offset.
            OSError: reading failed.
        """
        _keep_last_writers(self._pieces)
        requests = [
            self._checked_request(location, group)
            for location, pieces in self._pieces.items()
            for wave in _without_overlaps(pieces)
            for group in grouped(wave)
        ]
        tickets = chain(map(self._submit, list(requests)), self._submitted_staged(requests))
        try:
            results = wait_showing_progress(tickets, "restoring", show=self._show_progress, alive=alive)
        except CorruptionError as error:
            error.key = error.key or self._key_at(requests, error)
            raise
        for request, result in zip(requests, results, strict=True):
            if result.corrupt:
                raise self._corruption(request.location, request.pieces, result.corrupt[0])
        with torch.no_grad():
            for copy in self._afterwards:
                copy()

    def _submitted_staged(self, requests: list[_Request]) -> Iterator[Any]:
        """Tickets of the staged blocks, which are added to `requests` as they are submitted."""

        def submit(block: StagedBlock, temporary: torch.Tensor) -> ReadTicket:
            memory = destination_memory(temporary, self._engine)
            assert memory is not None  # it is new, contiguous and on the host
            requests.append(self._checked_request(block.location, [block.piece(memory)]))
            return self._submit(requests[-1])

        return submitted(chain.from_iterable(self._staged), submit)

    def _checked_request(self, location: str, pieces: list[Piece | Rows]) -> _Request:
        """Finds what can be found wrong before the first byte is read."""
        record = self._record(location)
        last = pieces[-1]  # in file order, without overlaps
        file_nbytes = self._file_nbytes(location, record, needed=last.end, key=last.key)
        return _Request(location, pieces, file_nbytes, record)

    def _record(self, location: str) -> FileRecord | None:
        record = self._index.files.get(location) if self._index is not None else None
        if self._index is not None and record is None:
            raise CorruptionError(
                f"{self._storage.root}: the index does not know {location!r}, which the manifest refers to",
                path=self._storage.root,
            )
        return record

    def _submit(self, request: _Request) -> ReadTicket:
        record = request.record
        if any(type(piece) is Rows for piece in request.pieces):
            offsets, extents = extents_of_regions(request.pieces)
        else:
            offsets = array("Q", [piece.begin for piece in request.pieces])
            extents = extents_of([piece.memory for piece in request.pieces])
        return begin_read(
            self._storage,
            self._engine,
            request.location,
            offsets,
            extents,
            file_nbytes=request.file_nbytes,
            digests=record.packed_digests() if record and self._verify else b"",
            stored=stored_chunks(record),
            digest_kind=self._index.digest if self._index is not None else DIGEST_NAME,
            fresh=self._only_fresh,
            max_inflight_nbytes=self._max_inflight_nbytes,
        )

    def _file_nbytes(self, location: str, record: FileRecord | None, *, needed: int, key: str) -> int:
        """Of the file before compression, which must have `needed`."""
        path = self._storage.path_of(location)
        try:
            actual = self._sizes.of(location)
        except FileNotFoundError as error:
            raise CorruptionError(f"{path} is missing; it has {key!r}", path=path, key=key) from error
        nbytes = actual if record is None else record.nbytes
        expected = None if record is None else record.nbytes_on_disk
        if (expected is not None and actual != expected) or needed > nbytes:
            raise CorruptionError(
                f"{path} has {actual} bytes, expected {expected or f'at least {needed}'}. The file "
                "was changed after the snapshot was committed; restore an older snapshot",
                path=path,
                key=key,
                offset=min(actual, expected or needed),
            )
        return nbytes

    def _key_at(self, requests: list[_Request], error: CorruptionError) -> str | None:
        """Whose bytes were not there, in a file that was cut after it was looked at."""
        pieces = [
            piece
            for request in requests
            if self._storage.path_of(request.location) == error.path
            for piece in request.pieces
        ]
        if not pieces:
            return None
        begin = error.offset or 0
        return _key_between(pieces, begin, begin + 1)

    def _corruption(self, location: str, pieces: list[Piece | Rows], chunk: CorruptChunk) -> CorruptionError:
        path = self._storage.path_of(location)
        begin = chunk.index * CHUNK_NBYTES
        key = _key_between(pieces, begin, begin + CHUNK_NBYTES)
        return CorruptionError(
            f"{chunk_damage(chunk, f'{key!r} in {path}', offset=begin)}. The file was changed after the snapshot was "
            "committed; restore an older snapshot, and see Snapshot.verify() for what else is damaged",
            path=path,
            key=key,
            offset=begin,
        )


def _key_between(pieces: list[Piece | Rows], begin: int, end: int) -> str:
    return next((p.key for p in pieces if p.begin < end and begin < p.end), pieces[0].key)


def _keep_last_writers(pieces: dict[str, list[Piece | Rows]]) -> None:
    """Of pieces for the same memory only the last stays, as in load_state_dict.

    Tied tensors share memory, and what was not tied when it was saved must not come out mixed.
    """
    count = sum(map(len, pieces.values()))
    if len({piece.memory.address for of_file in pieces.values() for piece in of_file}) == count:
        return
    writers = {piece.target: piece for of_file in pieces.values() for piece in of_file}
    if len(writers) < count:
        kept = set(map(id, writers.values()))
        for of_file in pieces.values():
            of_file[:] = [piece for piece in of_file if id(piece) in kept]


def _without_overlaps(pieces: list[Piece | Rows]) -> list[list[Piece | Rows]]:
    """Groups of pieces, each in file order and without overlaps: the engine reads a byte once.

    Tied tensors that are restored into separate ones take several groups.
    """
    waves: list[list[Piece | Rows]] = []
    ends: list[tuple[int, int]] = []  # of the waves, a heap: where each ends, and its number
    for piece in sorted(pieces, key=attrgetter("begin")):
        end = piece.end
        if ends and ends[0][0] <= piece.begin:
            number = ends[0][1]
            heapreplace(ends, (end, number))
        else:
            number = len(waves)
            waves.append([])
            heappush(ends, (end, number))
        waves[number].append(piece)
    return waves

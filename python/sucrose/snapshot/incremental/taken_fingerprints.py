"""Fingerprints of tensors: of those that are to be saved, and of those that lie in a snapshot without any."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sucrose.engine import CHUNK_NBYTES, Extents
from sucrose.snapshot.incremental.file_ranges import FileRange, read_ranges
from sucrose.snapshot.incremental.pieces import Rows
from sucrose.snapshot.incremental.segments import Segment, cut_out
from sucrose.snapshot.tensors import Memory, buffer_address, extents_of

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.snapshot.incremental.opened_base import OpenedBase

logger = logging.getLogger(__name__)

_FINGERPRINT_NBYTES = 16
_WINDOW_NBYTES = 64 << 20


class _Piece(NamedTuple):
    path: str
    begin: int
    nbytes: int


def fingerprints_of_memory(
    memories: Mapping[str, Memory], rows: Mapping[str, Rows], engine: Engine
) -> dict[str, bytes]:
    """Of the tensors at some logical paths, each cut into its pieces. Reads all of their memory."""
    if not memories:
        return {}
    sizes = array("Q", [rows[path].piece_nbytes for path in memories])
    found = memoryview(engine.fingerprint(extents_of(list(memories.values())), sizes))
    result = {}
    for path, memory in memories.items():
        nbytes = _FINGERPRINT_NBYTES * fingerprint_count(memory.nbytes, rows[path])
        result[path] = bytes(found[:nbytes])
        found = found[nbytes:]
    return result


def fingerprint_count(nbytes: int, rows: Rows) -> int:
    """How many fingerprints a tensor of `nbytes` has."""
    return sum(-(-size // CHUNK_NBYTES) for size in _piece_sizes(nbytes, rows))


def fingerprints_of_files(
    base: OpenedBase, segments: Mapping[str, list[Segment]], rows: Mapping[str, Rows], engine: Engine
) -> dict[str, bytes]:
    """Of tensors in a snapshot, which is read for that: a window of memory at a time.

    Raises:
        CorruptionError: the snapshot is damaged.
    """
    if not segments:
        return {}
    nbytes = sum(of_tensor[-1].end for of_tensor in segments.values())
    logger.info(
        "%s has no fingerprints of %d tensors: their %d bytes are read and compared. Snapshots that are taken with "
        "fingerprints=True, or with a base, have them",
        base.root,
        len(segments),
        nbytes,
    )
    records = {} if base.index is None else base.index.files
    kind = "xxh3-128" if base.index is None else base.index.digest
    result = dict.fromkeys(segments, b"")
    for window in _windows(segments, rows):
        buffer = bytearray(sum(piece.nbytes for piece in window))
        address = buffer_address(buffer)
        ranges = []
        pieces = Extents(keep_alive=[buffer])
        for piece in window:
            pieces.append(address, piece.nbytes)
            for part in cut_out(segments[piece.path], piece.begin, piece.begin + piece.nbytes):
                place = address + part.begin - piece.begin
                ranges.append(FileRange(part.location, part.offset, part.end - part.begin, place))
            address += piece.nbytes
        read_ranges(base.storage, records, kind, ranges, engine)
        found = memoryview(engine.fingerprint(pieces, pieces.nbytes))
        for piece in window:
            size = _FINGERPRINT_NBYTES * -(-piece.nbytes // CHUNK_NBYTES)
            result[piece.path] += found[:size]
            found = found[size:]
    return result


def _windows(segments: Mapping[str, list[Segment]], rows: Mapping[str, Rows]) -> Iterator[list[_Piece]]:
    """All pieces, in groups that fit into a window; a row that does not is one by itself."""
    window: list[_Piece] = []
    room = _WINDOW_NBYTES
    for path, of_tensor in segments.items():
        begin = 0
        for nbytes in _piece_sizes(of_tensor[-1].end, rows[path]):
            if window and nbytes > room:
                yield window
                window, room = [], _WINDOW_NBYTES
            window.append(_Piece(path, begin, nbytes))
            begin += nbytes
            room -= nbytes
    if window:
        yield window


def _piece_sizes(nbytes: int, rows: Rows) -> Iterator[int]:
    for begin in range(0, nbytes, rows.piece_nbytes):
        yield min(rows.piece_nbytes, nbytes - begin)

"""Reading ranges of a snapshot's files into plain memory, checked."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sucrose.engine import CHUNK_NBYTES, Engine, Extents
from sucrose.errors import CorruptionError
from sucrose.formats.index import FileRecord
from sucrose.snapshot.chunk_damage import chunk_damage
from sucrose.snapshot.records import stored_chunks
from sucrose.snapshot.remote.sizes import Sizes
from sucrose.snapshot.transfers import begin_read
from sucrose.storage import Directory


class FileRange(NamedTuple):
    """Bytes of a file, before it was compressed, and where in memory they go."""

    location: str
    offset: int
    nbytes: int
    address: int


def read_ranges(
    storage: Directory,
    records: Mapping[str, FileRecord],
    digest_kind: str,
    ranges: Iterable[FileRange],
    engine: Engine,
    sizes: Sizes | None = None,
) -> None:
    """Fills the memory, all files side by side. A file without a record is read unchecked.

    Whoever calls this several times for one operation gives the same `sizes` with all calls.

    Raises:
        CorruptionError: bytes differ from what was saved, or a file does not have its length.
        OSError: reading failed.
    """
    by_file: dict[str, list[FileRange]] = defaultdict(list)
    for wanted in ranges:
        by_file[wanted.location].append(wanted)
    tickets = []
    sizes = sizes or Sizes(storage)
    for location, of_file in by_file.items():
        record = records.get(location)
        nbytes = _file_nbytes(storage, location, record, sizes)
        for wave in _without_overlaps(of_file):
            destinations = Extents()
            for wanted in wave:
                destinations.append(wanted.address, wanted.nbytes)
            ticket = begin_read(
                storage,
                engine,
                location,
                array("Q", [wanted.offset for wanted in wave]),
                destinations,
                file_nbytes=nbytes,
                digests=b"" if record is None else record.packed_digests(),
                stored=stored_chunks(record),
                digest_kind=digest_kind,
            )
            tickets.append((location, ticket))
    for location, ticket in tickets:
        for chunk in ticket.wait().corrupt:
            path, offset = storage.path_of(location), chunk.index * CHUNK_NBYTES
            raise CorruptionError(
                f"{chunk_damage(chunk, path, offset=offset)}. The file was changed after its snapshot was committed",
                path=path,
                offset=offset,
            )


def _file_nbytes(storage: Directory, location: str, record: FileRecord | None, sizes: Sizes) -> int:
    actual = sizes.of(location)
    if record is None:
        return actual
    if actual != record.nbytes_on_disk:
        path = storage.path_of(location)
        raise CorruptionError(f"{path} has {actual} bytes, expected {record.nbytes_on_disk}", path=path)
    return record.nbytes


def _without_overlaps(ranges: list[FileRange]) -> list[list[FileRange]]:
    """Groups of ranges, each ascending: two tensors may have been the same bytes when they were saved."""
    waves: list[list[FileRange]] = []
    for wanted in sorted(ranges, key=lambda wanted: wanted.offset):
        for wave in waves:
            if wave[-1].offset + wave[-1].nbytes <= wanted.offset:
                wave.append(wanted)
                break
        else:
            waves.append([wanted])
    return waves

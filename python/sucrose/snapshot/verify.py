"""Checking a snapshot's files without restoring anything."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from sucrose.engine import CHUNK_NBYTES, Engine, ReadResult, ReadTicket
from sucrose.errors import CorruptionError
from sucrose.formats.index import FileRecord, SnapshotIndex
from sucrose.formats.manifest import METADATA_FILE, ChunkedTensorEntry, ObjectEntry, SnapshotMetadata, TensorEntry
from sucrose.snapshot.chunk_damage import chunk_damage
from sucrose.snapshot.incremental.bases import base_of, check_base
from sucrose.snapshot.progress import cancel_and_wait
from sucrose.snapshot.records import stored_chunks
from sucrose.snapshot.remote.sizes import Sizes
from sucrose.snapshot.transfers import begin_verify
from sucrose.storage import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a file of a snapshot.

    Attributes:
        file: its name in the snapshot.
        offset: of the damage, in bytes; None where it is the file as a whole.
        keys: logical paths of the values that are affected.
        message: what was found and what was expected.
    """

    file: str
    offset: int | None
    keys: tuple[str, ...]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """Outcome of `Snapshot.verify`; true where nothing is wrong.

    Attributes:
        files: number of files that were read.
        nbytes: bytes that were read.
        seconds: wall time.
        problems: everything that was found, in file order.
    """

    files: int
    nbytes: int
    seconds: float
    problems: tuple[Problem, ...]

    def __bool__(self) -> bool:
        return not self.problems


def verify_files(storage: Directory, metadata: SnapshotMetadata, index: SnapshotIndex, engine: Engine) -> VerifyReport:
    """Reads every file that the index knows and compares all digests.

    Raises:
        StorageError: an object store gives no answer.
    """
    started = time.perf_counter()
    ranges = ranges_by_file(metadata)
    problems: list[Problem] = []
    nbytes = files = 0
    for base in index.bases:
        try:
            check_base(storage, index, base, engine)
        except (CorruptionError, OSError) as error:
            problems.append(Problem(file=f"{base}/{METADATA_FILE}", offset=None, keys=(), message=str(error)))
    for name, result in _results(storage, index, engine):
        if isinstance(result, str):
            keys = tuple(key for key, _, _ in ranges.get(name, ()))
            problems.append(Problem(file=name, offset=None, keys=keys, message=result))
            continue
        files += 1
        nbytes += result.nbytes
        for chunk in result.corrupt:
            begin = chunk.index * CHUNK_NBYTES
            affected = tuple(
                key for key, first, last in ranges.get(name, ()) if first < begin + CHUNK_NBYTES and begin < last
            )
            if not affected and base_of(name, index) is not None:
                continue  # nothing of this snapshot: its base has to tell of that
            message = chunk_damage(chunk, name, offset=begin)
            problems.append(Problem(file=name, offset=begin, keys=affected, message=message))
    for name in sorted(set(ranges) - set(index.files)):
        keys = tuple(key for key, _, _ in ranges[name])
        message = f"the index does not know {name}, which the manifest refers to"
        problems.append(Problem(file=name, offset=None, keys=keys, message=message))
    return VerifyReport(
        files=files,
        nbytes=nbytes,
        seconds=time.perf_counter() - started,
        problems=tuple(problems),
    )


def _results(storage: Directory, index: SnapshotIndex, engine: Engine) -> Iterator[tuple[str, ReadResult | str]]:
    """What came of each file, in order: what is wrong with all of it is a message."""
    sizes = Sizes(storage)
    # On a disk one after another: a file alone keeps all threads busy, and its ticket holds it open.
    limit = 1 if storage.is_local else storage.concurrency
    under_way: deque[tuple[str, ReadTicket | str]] = deque()
    try:
        for name, record in index.files.items():
            under_way.append((name, _begun(storage, name, record, index, engine, sizes)))
            if len(under_way) == limit:
                yield under_way[0][0], _ended(under_way[0][1], storage)
                under_way.popleft()
        while under_way:
            yield under_way[0][0], _ended(under_way[0][1], storage)
            under_way.popleft()
    finally:
        cancel_and_wait(ticket for _, ticket in under_way if not isinstance(ticket, str))


def _begun(
    storage: Directory, name: str, record: FileRecord, index: SnapshotIndex, engine: Engine, sizes: Sizes
) -> ReadTicket | str:
    try:
        actual = sizes.of(name)
        if actual != record.nbytes_on_disk:
            return f"{name} has {actual} bytes, expected {record.nbytes_on_disk}"
        return begin_verify(
            storage,
            engine,
            name,
            file_nbytes=record.nbytes,
            digests=record.packed_digests(),
            stored=stored_chunks(record),
            digest_kind=index.digest,
        )
    except OSError as error:
        return _message(error, storage)


def _ended(ticket: ReadTicket | str, storage: Directory) -> ReadResult | str:
    if isinstance(ticket, str):
        return ticket
    try:
        return ticket.wait()
    except (CorruptionError, OSError) as error:
        return _message(error, storage)


def _message(error: CorruptionError | OSError, storage: Directory) -> str:
    """What is wrong with the file. Nothing is, as far as anybody knows, where a store gives no answer."""
    if not storage.is_local and not isinstance(error, (CorruptionError, FileNotFoundError)):
        raise error
    return str(error)


def ranges_by_file(metadata: SnapshotMetadata) -> dict[str, list[tuple[str, int, int]]]:
    """(logical path, first byte, last byte + 1) of all values in each file."""
    ranges: dict[str, list[tuple[str, int, int]]] = {}
    whole_file = (0, 1 << 62)
    for path, entry in metadata.manifest.items():
        if isinstance(entry, ObjectEntry):
            ranges.setdefault(entry.location, []).append((path, *whole_file))
        elif isinstance(entry, TensorEntry):
            ranges.setdefault(entry.location, []).append((path, *(entry.byte_range or whole_file)))
        elif isinstance(entry, ChunkedTensorEntry):
            for part in entry.chunks:
                place = part.tensor.byte_range or whole_file
                ranges.setdefault(part.tensor.location, []).append((path, *place))
    return ranges

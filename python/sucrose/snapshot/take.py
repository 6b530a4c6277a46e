"""Writing a snapshot.

1. capture   state dicts are taken, flattened and checked (capture.py)
2. plan      tensors get their places in data files (plan.py)
3. write     data files by the engine, and meanwhile objects; then index and metadata; all of it below
             a hidden directory
4. commit    fsync, rename, fsync (storage/local.py)

Whatever fails before the rename in step 4 leaves the target as it was.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import chain
from typing import Any, NoReturn

from sucrose.engine import CHUNK_NBYTES, Engine, WriteTicket
from sucrose.errors import StorageError, SucroseError
from sucrose.formats.index import (
    DIGEST_NAME,
    INDEX_FILE,
    INDEX_VERSION,
    FileRecord,
    SnapshotIndex,
    encode_index,
)
from sucrose.formats.manifest import (
    MANIFEST_VERSION,
    METADATA_FILE,
    TORCH_SAVE,
    Entry,
    ObjectEntry,
    SnapshotMetadata,
    TensorEntry,
    encode_metadata,
)
from sucrose.options import Options
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.capture import CapturedState
from sucrose.snapshot.objects import dump_object, object_location
from sucrose.snapshot.plan import DataFile, plan_data_files
from sucrose.snapshot.progress import cancel_and_wait, wait_showing_progress
from sucrose.snapshot.tensors import extents_of
from sucrose.storage import StagedDirectory

_STARTED_EARLY = 8  # data files that are under way while objects are pickled


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeStats:
    """What a finished take did; times in seconds."""

    tensors: int
    objects: int
    nbytes: int
    """Bytes of all data files, headers included."""
    capture_s: float
    """state_dict() calls, flattening and planning."""
    write_s: float
    """From the first byte until all data files are complete and durable, objects included."""
    commit_s: float
    """Index, metadata, fsyncs of directories, and the rename."""
    engine: dict[str, Any]


def write_snapshot(
    path: str,
    captured: CapturedState,
    *,
    options: Options,
    engine: Engine,
    durable: bool,
    overwrite: bool,
    show_progress: bool | None,
    capture_s: float,
) -> tuple[SnapshotMetadata, TakeStats]:
    """Steps 2 to 4, for a state that was captured in `capture_s` seconds.

    Raises:
        FileExistsError: something is at `path` already.
        StorageError: writing failed; `path` is as it was.
    """
    started = time.perf_counter()
    with collector_paused():
        files, tensor_entries = plan_data_files(captured, options)
    planned = time.perf_counter()
    staged = StagedDirectory(path)
    try:
        write_file = partial(_write_file, staged, captured, engine, durable)
        early = [write_file(file) for file in files[:_STARTED_EARLY]]
        try:
            objects = _write_objects(staged, captured, engine)
            entries = {**captured.flat.entries, **tensor_entries, **objects.entries}
            metadata = SnapshotMetadata(MANIFEST_VERSION, 1, entries)
            encoded = encode_metadata(metadata)
        except BaseException:
            cancel_and_wait(early)
            raise
        tickets = chain(early, map(write_file, files[_STARTED_EARLY:]))
        results = wait_showing_progress(tickets, "saving", show=show_progress)
        written = time.perf_counter()
        records = {
            file.name: FileRecord(result.nbytes, result.digests.hex())
            for file, result in zip(files, results, strict=True)
        }
        records.update(objects.records)
        index = SnapshotIndex(
            format_version=INDEX_VERSION,
            writer=f"torch-sucrose {version('torch-sucrose')}",
            digest=DIGEST_NAME,
            chunk_nbytes=CHUNK_NBYTES,
            metadata=record_of(encoded, engine),
            files=records,
            state_dict_metadata=captured.flat.state_dict_metadata,
        )
        unsynced = [
            *objects.paths,
            staged.write(INDEX_FILE, encode_index(index, engine.digest)),
            staged.write(METADATA_FILE, encoded),
        ]
        staged.commit(unsynced, engine.sync if durable else None, overwrite=overwrite)
    except OSError as error:
        staged.discard()
        _raise_with_context(error, path)
    except BaseException:
        staged.discard()
        raise
    stats = TakeStats(
        tensors=len(tensor_entries),
        objects=len(objects.entries),
        nbytes=sum(record.nbytes for record in records.values()),
        capture_s=capture_s + planned - started,
        write_s=written - planned,
        commit_s=time.perf_counter() - written,
        engine=engine.stats(),
    )
    return metadata, stats


def record_of(data: bytes, engine: Engine) -> FileRecord:
    """Size and digests of a small file."""
    digests = b"".join(engine.digest(data[begin : begin + CHUNK_NBYTES]) for begin in range(0, len(data), CHUNK_NBYTES))
    return FileRecord(len(data), digests.hex())


def _write_file(
    staged: StagedDirectory, captured: CapturedState, engine: Engine, durable: bool, file: DataFile
) -> WriteTicket:
    memories = [captured.dense[path] for path in file.paths]
    extents = extents_of(memories, header=file.header)
    return engine.write(staged.create_path(file.name), extents, durable=durable)


@dataclass(slots=True)
class _WrittenObjects:
    entries: dict[str, Entry] = field(default_factory=dict)
    records: dict[str, FileRecord] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    """Of the files, none of them durable yet."""


def _write_objects(staged: StagedDirectory, captured: CapturedState, engine: Engine) -> _WrittenObjects:
    """Equal objects share a file: optimizers bring many an equal None and tuple."""
    written = _WrittenObjects()
    location_of: dict[bytes, str] = {}

    def store(path: str, value: Any) -> str:
        data = dump_object(value, path)
        digest = engine.digest(data)
        location = location_of.get(digest)
        if location is None:
            location = location_of[digest] = object_location(path, digest)
            written.paths.append(staged.write(location, data))
            written.records[location] = record_of(data, engine)
        return location

    for path, value in captured.flat.objects:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        written.entries[path] = ObjectEntry(store(path, value), TORCH_SAVE, name, False)
    for path, tensor in captured.pickled_tensors.items():
        dtype, shape = str(tensor.dtype), list(tensor.shape)
        written.entries[path] = TensorEntry(store(path, tensor), TORCH_SAVE, dtype, shape, False)
    return written


# Of these the caller knows best what to do, and expects Python's own types.
_PLAIN_ERRNOS = frozenset(
    {errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS, errno.EINTR}
)


def _raise_with_context(error: OSError, snapshot_path: str) -> NoReturn:
    if isinstance(error, SucroseError) or error.errno is None or error.errno in _PLAIN_ERRNOS:
        raise error
    file = os.fsdecode(error.filename) if error.filename else snapshot_path
    raise StorageError(
        error.errno,
        f"saving {snapshot_path!r} failed and nothing was committed: {os.strerror(error.errno)}",
        file,
        path=file,
    ) from error

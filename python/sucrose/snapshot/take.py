"""Writing a snapshot.

1. capture   state dicts are taken, flattened and checked; nothing is written yet
2. plan      tensors get their places in data files
3. write     data files by the engine, objects, index and metadata, all below a hidden directory
4. commit    see storage.local

Whatever fails before the rename in step 4 leaves the target as it was.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NoReturn

import torch

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
    BUFFER_PROTOCOL,
    MANIFEST_VERSION,
    METADATA_FILE,
    TORCH_SAVE,
    ChunkedTensorEntry,
    Entry,
    ObjectEntry,
    Shard,
    SnapshotMetadata,
    TensorEntry,
    encode_metadata,
)
from sucrose.formats.safetensors import HeaderEntry, encode_header
from sucrose.options import Options
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.flatten import FlatState, encode_key, flatten
from sucrose.snapshot.objects import dump_object, object_location
from sucrose.snapshot.plan import order_by_alignment, split_into_files, split_rows
from sucrose.snapshot.progress import wait_showing_progress
from sucrose.snapshot.rng_state import RNGState
from sucrose.snapshot.tensors import (
    DTYPE_NAMES,
    HostMemory,
    Kind,
    extents_of,
    is_picklable,
    kind_of,
    plain_memory,
    source_memory,
    without_spare_storage,
)
from sucrose.storage import StagedDirectory

PrepareTensor = Callable[[str, torch.Tensor, bool], torch.Tensor]

_RANK = 0


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
    """From the first byte until data files are complete and durable."""
    commit_s: float
    """Objects, index, metadata, fsyncs of directories, and the rename."""
    engine: dict[str, Any]


@dataclass(slots=True)
class CapturedState:
    """A state that is ready to be planned."""

    flat: FlatState
    dense: dict[str, HostMemory] = field(default_factory=dict)
    """Tensors to be written by their bytes, by logical path."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Tensors whose bytes are those of another path: tied weights are stored once."""
    pickled_tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def capture(app_state: Mapping[str, Any], prepare: PrepareTensor | None) -> CapturedState:
    """Step 1: takes the state dicts of a checked `app_state`.

    The random generators' state comes first, and is set back to that at the end: state_dict()
    functions may draw from them.
    """
    flat = FlatState()
    rng = [(key, value) for key, value in app_state.items() if isinstance(value, RNGState)]
    others = [(key, value) for key, value in app_state.items() if not isinstance(value, RNGState)]
    generators = RNGState()
    before = generators.state_dict()
    try:
        for key, _ in rng:
            flatten(before, f"{_RANK}/{encode_key(key)}", flat)
        for key, stateful in others:
            flatten(stateful.state_dict(), f"{_RANK}/{encode_key(key)}", flat)
        captured = CapturedState(flat)
        _sort_tensors(captured, prepare)
    finally:
        generators.load_state_dict(before)
    return captured


def _sort_tensors(captured: CapturedState, prepare: PrepareTensor | None) -> None:
    first_at: dict[object, str] = {}
    for path, given in captured.flat.tensors:
        tensor = given if prepare is None else prepare(path.partition("/")[2], given, False)
        memory = plain_memory(tensor)
        if memory is None:
            kind = kind_of(tensor, path)
            if kind is Kind.PICKLED:
                captured.pickled_tensors[path] = without_spare_storage(tensor)
                continue
            if kind is Kind.OBJECT:
                captured.flat.objects.append((path, tensor))
                continue
            memory = source_memory(tensor)
        if memory.nbytes == 0 and is_picklable(tensor.dtype):  # torchsnapshot cannot read a range of no bytes
            captured.pickled_tensors[path] = torch.empty(tensor.shape, dtype=tensor.dtype)
            continue
        captured.dense[path] = memory
        first = first_at.setdefault(_identity(memory), path)
        if first is not path:
            captured.aliases[path] = first


def _identity(memory: HostMemory) -> object:
    """Equal for tensors that are the same bytes in the same order."""
    if memory.strides is None:
        return memory.address, memory.nbytes
    return memory.address, memory.nbytes, memory.strides, memory.tensor.shape


@dataclass(slots=True)
class _DataFile:
    name: str
    header: bytes
    paths: list[str]


def _plan(captured: CapturedState, options: Options) -> tuple[list[_DataFile], dict[str, Entry]]:
    """Step 2: the data files, and the entries of all dense tensors."""
    dense, aliases = captured.dense, captured.aliases
    paths = [path for path in dense if path not in aliases] if aliases else list(dense)
    order = order_by_alignment([dense[path].tensor.element_size() for path in paths])
    prefix = len(f"{_RANK}/")
    headers = []
    for index in order:
        path = paths[index]
        memory = dense[path]
        tensor = memory.tensor
        headers.append(HeaderEntry(path[prefix:], DTYPE_NAMES[tensor.dtype], list(tensor.shape), memory.nbytes))
    entries: dict[str, Entry] = {}
    places: dict[str, tuple[str, int]] = {}
    files: list[_DataFile] = []
    for chosen in split_into_files(headers, max_file_nbytes=options.max_file_nbytes):
        location = f"data/{_RANK}_{len(files)}.safetensors"
        file = _DataFile(location, encode_header(chosen), [])
        files.append(file)
        begin = len(file.header)
        for header in chosen:
            path = f"{_RANK}/{header.name}"
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
    """Steps 2 to 4.

    Raises:
        FileExistsError: something is at `path` already.
        StorageError: writing failed; `path` is as it was.
    """
    started = time.perf_counter()
    with collector_paused():
        files, tensor_entries = _plan(captured, options)
    planned = time.perf_counter()
    staged = StagedDirectory(path)
    try:
        records = _write_data(staged, files, captured, engine, durable, show_progress)
        written = time.perf_counter()
        object_entries, unsynced = _write_objects(staged, captured, engine, records)
        metadata = SnapshotMetadata(MANIFEST_VERSION, 1, {**captured.flat.entries, **tensor_entries, **object_entries})
        encoded = encode_metadata(metadata)
        index = SnapshotIndex(
            format_version=INDEX_VERSION,
            writer=f"torch-sucrose {version('torch-sucrose')}",
            digest=DIGEST_NAME,
            chunk_nbytes=CHUNK_NBYTES,
            metadata=record_of(encoded, engine),
            files=records,
            state_dict_metadata=captured.flat.state_dict_metadata,
        )
        unsynced.append(staged.write(INDEX_FILE, encode_index(index, engine.digest)))
        unsynced.append(staged.write(METADATA_FILE, encoded))
        sync = (lambda paths: engine.sync(list(paths))) if durable else None
        staged.commit(unsynced, sync, overwrite=overwrite)
    except OSError as error:
        staged.discard()
        _raise_with_context(error, path)
    except BaseException:
        staged.discard()
        raise
    stats = TakeStats(
        tensors=len(tensor_entries),
        objects=len(object_entries),
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


def _write_data(
    staged: StagedDirectory,
    files: list[_DataFile],
    captured: CapturedState,
    engine: Engine,
    durable: bool,
    show_progress: bool | None,
) -> dict[str, FileRecord]:
    def submit(file: _DataFile) -> WriteTicket:
        memories = [captured.dense[path] for path in file.paths]
        extents = extents_of(memories, header=file.header)
        return engine.write(staged.create_path(file.name), extents, durable=durable)

    results = wait_showing_progress(map(submit, files), "saving", show=show_progress)
    return {
        file.name: FileRecord(result.nbytes, result.digests.hex()) for file, result in zip(files, results, strict=True)
    }


def _write_objects(
    staged: StagedDirectory,
    captured: CapturedState,
    engine: Engine,
    records: dict[str, FileRecord],
) -> tuple[dict[str, Entry], list[str]]:
    """Equal objects share a file: optimizers bring many an equal None and tuple."""
    entries: dict[str, Entry] = {}
    unsynced: list[str] = []
    location_of: dict[bytes, str] = {}

    def store(path: str, value: Any) -> str:
        data = dump_object(value, path)
        digest = engine.digest(data)
        location = location_of.get(digest)
        if location is None:
            location = location_of[digest] = object_location(path, digest)
            unsynced.append(staged.write(location, data))
            records[location] = record_of(data, engine)
        return location

    for path, value in captured.flat.objects:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        entries[path] = ObjectEntry(store(path, value), TORCH_SAVE, name, False)
    for path, tensor in captured.pickled_tensors.items():
        dtype, shape = str(tensor.dtype), list(tensor.shape)
        entries[path] = TensorEntry(store(path, tensor), TORCH_SAVE, dtype, shape, False)
    return entries, unsynced


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

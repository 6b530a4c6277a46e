"""Writing a snapshot.

`start_take`, in the caller's thread:

1. capture   state dicts are taken, flattened and checked (capture.py)
2. plan      tensors get their places in data files (plan.py), for which there has to be room
3. write     the engine begins the data files; meanwhile objects are written; all of it below a
             hidden directory
4. safe      where staging was asked for: tensors have been copied, or as good as that, and nothing
             of the program's is looked at any more

`StartedTake`, in any thread:

5. wait      until the data files are complete and durable
6. commit    index and metadata, their signature, and the annex; then fsync, rename, fsync (storage/local.py)

Whatever fails before the rename in step 6 leaves the target as it was; after it the new snapshot is there.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from sucrose.engine import CHUNK_NBYTES, Engine, Staging, WriteResult
from sucrose.errors import StorageError, StorageFullError, SucroseError
from sucrose.formats.index import (
    CODEC_NAME,
    DIGEST_NAME,
    INDEX_FILE,
    SHA256_NAME,
    BaseRecord,
    FileRecord,
    SnapshotIndex,
    StoredRecord,
    encode_index,
)
from sucrose.formats.manifest import MANIFEST_VERSION, METADATA_FILE, SnapshotMetadata, encode_metadata
from sucrose.formats.signature import SIGNATURE_FILE, encode_signature
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.arguments import check_target, replacing
from sucrose.snapshot.capture import PrepareTensor, capture
from sucrose.snapshot.data_writes import DataWrites
from sucrose.snapshot.incremental.bases import base_paths
from sucrose.snapshot.incremental.dependents import lease_to_refer, note_dependent
from sucrose.snapshot.incremental.planning import TakePlan, plan_take
from sucrose.snapshot.plan import DataFile
from sucrose.snapshot.records import record_of
from sucrose.snapshot.stored_objects import StoredObjects, store_objects
from sucrose.snapshot.take_stats import TakeStats
from sucrose.snapshot.tensors import extents_of
from sucrose.storage import StagedDirectory
from sucrose.storage.free_space import check_free_space, is_full, storage_full

if TYPE_CHECKING:
    from sucrose.compression import Compression
    from sucrose.formats.signing_keys import Signer
    from sucrose.options import Options
    from sucrose.snapshot.annex import Annex
    from sucrose.snapshot.stateful import AppState

_WRITER = f"torch-sucrose {version('torch-sucrose')}"  # once: whoever upgrades may do so under a running program
_STARTED_EARLY = 8  # data files that are under way while objects are pickled


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """From time.perf_counter()."""

    began: float
    planned: float
    safe: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    """What a commit writes down of the state. Nothing in it belongs to the program."""

    metadata: SnapshotMetadata
    encoded_metadata: bytes
    data_files: list[str]
    """Names, in the order in which they were submitted."""
    data_nbytes: int
    """Of the data files, before they are compressed."""
    tensors: int
    objects: StoredObjects
    state_dict_metadata: dict[str, dict[str, dict[str, Any]]]
    referred: dict[str, FileRecord]
    """Files of other snapshots, by their names from this one."""
    referred_nbytes: int
    bases: dict[str, BaseRecord]
    fingerprints: dict[str, str]


def start_take(
    target: str,
    app_state: AppState,
    prepare: PrepareTensor | None,
    *,
    options: Options,
    engine: Engine,
    durable: bool,
    overwrite: bool,
    staging: Staging | None = None,
    show_progress: bool | None = False,
    annex: Annex | None = None,
    compression: Compression | None = None,
    signer: Signer | None = None,
    base: str | None = None,
    fingerprints: bool = False,
) -> StartedTake:
    """Steps 1 to 4, of a checked `app_state`. Without `staging` the sources are safe after step 5.

    Raises:
        UnsupportedError: a tensor without data, or a value that cannot be pickled.
        IncompleteSnapshotError: there is no complete snapshot at `base`, or one that it refers to is gone.
        CorruptionError: the base is damaged.
        StorageFullError: there is too little space.
        StorageError: writing failed; `target` is as it was.
    """
    began = time.perf_counter()
    with torch.no_grad(), collector_paused():
        captured = capture(app_state, prepare, engine)
        captured_at = time.perf_counter()
        digest_kind = DIGEST_NAME if signer is None else SHA256_NAME
        plan = plan_take(
            captured,
            target=target,
            base=base,
            fingerprints=fingerprints or bool(options.fingerprints),
            options=options,
            compression=compression,
            engine=engine,
            signer=signer,
        )
    files = plan.files
    planned = time.perf_counter()
    nbytes = sum(_nbytes_of(file, plan) for file in files)
    try:
        certain_nbytes = 0 if compression is not None else nbytes  # what compression leaves is not known before
        _check_free_space(target, certain_nbytes, annex, replaces=overwrite and os.path.isdir(target))
        with _explained(target, lambda: nbytes):
            staged = StagedDirectory(target)
    except BaseException:
        plan.release()
        raise
    staged.hold(plan.leases)
    writes = DataWrites(engine, durable=durable, staging=staging, show_progress=show_progress, digest_kind=digest_kind)
    with _discarded_on_error(staged, writes, nbytes):
        for file in files[:_STARTED_EARLY]:
            _submit(writes, staged, plan, file)
        objects = store_objects(staged, captured, engine, digest_kind)
        entries = {**captured.flat.entries, **plan.entries, **objects.entries}
        metadata = SnapshotMetadata(MANIFEST_VERSION, 1, entries)
        contents = _Contents(
            metadata=metadata,
            encoded_metadata=encode_metadata(metadata),
            data_files=[file.name for file in files],
            data_nbytes=nbytes,
            tensors=len(plan.entries),
            objects=objects,
            state_dict_metadata=captured.flat.state_dict_metadata,
            referred=plan.referred,
            referred_nbytes=plan.referred_nbytes,
            bases=plan.bases,
            fingerprints=plan.fingerprints,
        )
        objects_at = time.perf_counter()
        for file in files[_STARTED_EARLY:]:
            _submit(writes, staged, plan, file)
        if staging is not None:
            writes.wait_safe()
    for name, begin, end in (
        ("capture", began, captured_at),
        ("plan", captured_at, planned),
        ("objects", planned, objects_at),
    ):
        engine.trace(name, begin, end)
    times = _Times(began=began, planned=planned, safe=time.perf_counter())
    return StartedTake(
        staged,
        writes,
        contents,
        times,
        engine,
        durable=durable,
        overwrite=overwrite,
        in_background=staging is not None,
        annex=annex,
        signer=signer,
    )


class StartedTake:
    """Steps 5 and 6. Belongs to one thread at a time; of `writes` the thread-safe methods do not.

    When a method has raised, the hidden directory is gone and nothing is under way.
    """

    def __init__(
        self,
        staged: StagedDirectory,
        writes: DataWrites,
        contents: _Contents,
        times: _Times,
        engine: Engine,
        *,
        durable: bool,
        overwrite: bool,
        in_background: bool,
        annex: Annex | None,
        signer: Signer | None,
    ) -> None:
        self.writes = writes
        self._staged = staged
        self._contents = contents
        self._times = times
        self._engine = engine
        self._durable = durable
        self._overwrite = overwrite
        self._in_background = in_background
        self._annex = annex
        self._signer = signer
        self._digest_kind = DIGEST_NAME if signer is None else SHA256_NAME
        self._written = times.safe

    def wait_written(self, timeout_s: float | None = None) -> bool:
        """Step 5; False where it takes longer than `timeout_s`.

        Raises:
            StorageError: writing failed; the target is as it was.
        """
        with _discarded_on_error(self._staged, self.writes, self._contents.data_nbytes):
            is_written = self.writes.wait(timeout_s)
        self._written = time.perf_counter()
        return is_written

    def commit(self) -> tuple[SnapshotMetadata, TakeStats]:
        """Step 6, after `wait_written` has returned true.

        Raises:
            FileExistsError: something has come to be at the target.
            NotDurableError: the snapshot is in place, and a power cut may undo that.
            StorageError: writing failed; the target is as it was.
        """
        contents = self._contents
        began = time.perf_counter()
        with _discarded_on_error(self._staged, self.writes, self._contents.data_nbytes):
            check_target(self._staged.target, self._overwrite)
            index = self._index()
            unsynced = [
                *contents.objects.paths,
                *self._write_annex(index),
                *self._write_index(index),
                *self._note_at_bases(index),
                self._staged.write(METADATA_FILE, contents.encoded_metadata),
            ]
            self._staged.commit(
                unsynced,
                self._engine.sync if self._durable else None,
                overwrite=self._overwrite,
                last_look=replacing(self._staged.target),
            )
        if self._annex is not None:
            self._annex.committed()
        ended = time.perf_counter()
        self._engine.trace("commit", began, ended)
        times = self._times
        stats = TakeStats(
            tensors=contents.tensors,
            objects=len(contents.objects.entries),
            nbytes=sum(record.nbytes for record in index.own_files().values()),
            stored_nbytes=sum(record.nbytes_on_disk for record in index.own_files().values()),
            referred_nbytes=contents.referred_nbytes,
            staging=self.writes.staging(),
            stall_s=(times.safe if self._in_background else ended) - times.began,
            capture_s=times.planned - times.began,
            write_s=self._written - times.planned,
            commit_s=ended - began,
            engine=self._engine.stats(),
        )
        return contents.metadata, stats

    def abandon(self) -> None:
        """Gives the take up: ends what is under way and removes the hidden directory."""
        _discard(self._staged, self.writes)

    def _write_annex(self, index: SnapshotIndex) -> list[str]:
        """Paths of the annex's files, which are added to the index."""
        if self._annex is None:
            return []
        nbytes = index.metadata.nbytes + sum(record.nbytes for record in index.own_files().values())
        paths = []
        for name, data in self._annex.files(nbytes, sorted(index.bases)).items():
            paths.append(self._staged.write(name, data))
            index.files[name] = record_of(data, self._engine, self._digest_kind)
        return paths

    def _note_at_bases(self, index: SnapshotIndex) -> list[str]:
        """Paths of the notes by which the snapshots that are referred to know of this one."""
        paths = []
        for base in base_paths(self._staged, index):
            self._staged.hold([lease_to_refer(base)])
            paths += note_dependent(base, self._staged.target)
        return paths

    def _write_index(self, index: SnapshotIndex) -> list[str]:
        """Paths of the index, which is complete then, and of the signature where there is one."""
        encoded = encode_index(index, self._engine.digest)
        paths = [self._staged.write(INDEX_FILE, encoded)]
        if self._signer is not None:
            signature = encode_signature(self._signer, index=encoded, metadata=self._contents.encoded_metadata)
            paths.append(self._staged.write(SIGNATURE_FILE, signature))
        return paths

    def _index(self) -> SnapshotIndex:
        contents = self._contents
        records = {
            name: _data_record(result) for name, result in zip(contents.data_files, self.writes.results, strict=True)
        }
        records.update(contents.objects.records)
        records.update(contents.referred)
        index = SnapshotIndex(
            format_version=1,
            writer=_WRITER,
            digest=self._digest_kind,
            chunk_nbytes=CHUNK_NBYTES,
            metadata=record_of(contents.encoded_metadata, self._engine, self._digest_kind),
            files=records,
            state_dict_metadata=contents.state_dict_metadata,
            bases=contents.bases,
            fingerprints=contents.fingerprints,
        )
        index.set_version()
        return index


def _data_record(result: WriteResult) -> FileRecord:
    stored = result.stored
    if stored is None:
        return FileRecord(result.nbytes, result.digests.hex())
    groups = "".join(map(str, stored.groups)) if any(stored.groups) else ""
    return FileRecord(result.nbytes, result.digests.hex(), StoredRecord(CODEC_NAME, stored.sizes.tolist(), groups))


def _submit(writes: DataWrites, staged: StagedDirectory, plan: TakePlan, file: DataFile) -> None:
    memories = [plan.memories[path] for path in file.paths]
    writes.submit(staged.create_path(file.name), extents_of(memories, header=file.header), file.encoding)


def _check_free_space(target: str, nbytes: int, annex: Annex | None, *, replaces: bool) -> None:
    try:
        check_free_space(target, nbytes, replaces=replaces)
    except StorageFullError:
        if annex is None or not annex.make_room():
            raise
        check_free_space(target, nbytes, replaces=replaces)


def _nbytes_of(file: DataFile, plan: TakePlan) -> int:
    return len(file.header) + sum(plan.memories[path].nbytes for path in file.paths)


@contextmanager
def _discarded_on_error(staged: StagedDirectory, writes: DataWrites, data_nbytes: int) -> Iterator[None]:
    with _explained(staged.target, lambda: data_nbytes + staged.small_nbytes):
        try:
            yield
        except BaseException:
            _discard(staged, writes)
            raise


@contextmanager
def _explained(snapshot_path: str, nbytes: Callable[[], int]) -> Iterator[None]:
    """Adds to errors of the system which snapshot it was about, and how much it had to write."""
    try:
        yield
    except OSError as error:
        explained = _with_context(error, snapshot_path, nbytes)
        if explained is error:
            raise
        raise explained from error


def _discard(staged: StagedDirectory, writes: DataWrites) -> None:
    writes.cancel_and_wait()
    staged.discard()


# Of these the caller knows best what to do, and expects Python's own types.
_PLAIN_ERRNOS = frozenset(
    {errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS, errno.EINTR}
)


def _with_context(error: OSError, snapshot_path: str, nbytes: Callable[[], int]) -> OSError:
    if isinstance(error, SucroseError) or error.errno is None or error.errno in _PLAIN_ERRNOS:
        return error
    if is_full(error):
        return storage_full(error, snapshot_path, nbytes())
    file = os.fsdecode(error.filename) if error.filename else snapshot_path
    return StorageError(
        error.errno,
        f"saving {snapshot_path!r} failed and nothing was committed: {os.strerror(error.errno)}",
        file,
        path=file,
    )

"""Writing a snapshot.

`start_take`, in the caller's thread:

1. capture   state dicts are taken, flattened and checked (capture.py)
2. plan      tensors get their places in data files (plan.py)
3. write     the engine begins the data files; meanwhile objects are written; all of it below a
             hidden directory
4. safe      where staging was asked for: tensors have been copied, or as good as that, and nothing
             of the program's is looked at any more

`StartedTake`, in any thread:

5. wait      until the data files are complete and durable
6. commit    index and metadata, and the annex; then fsync, rename, fsync (storage/local.py)

Whatever fails before the rename in step 6 leaves the target as it was; after it the new snapshot is there.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from sucrose.engine import CHUNK_NBYTES, Engine, Staging
from sucrose.errors import StorageError, SucroseError
from sucrose.formats.index import DIGEST_NAME, INDEX_FILE, INDEX_VERSION, FileRecord, SnapshotIndex, encode_index
from sucrose.formats.manifest import MANIFEST_VERSION, METADATA_FILE, SnapshotMetadata, encode_metadata
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.arguments import check_target
from sucrose.snapshot.capture import CapturedState, PrepareTensor, capture
from sucrose.snapshot.data_writes import DataWrites
from sucrose.snapshot.plan import DataFile, plan_data_files
from sucrose.snapshot.records import record_of
from sucrose.snapshot.stored_objects import StoredObjects, store_objects
from sucrose.snapshot.take_stats import TakeStats
from sucrose.snapshot.tensors import extents_of
from sucrose.storage import StagedDirectory

if TYPE_CHECKING:
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
    tensors: int
    objects: StoredObjects
    state_dict_metadata: dict[str, dict[str, dict[str, Any]]]


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
) -> StartedTake:
    """Steps 1 to 4, of a checked `app_state`. Without `staging` the sources are safe after step 5.

    Raises:
        UnsupportedError: a tensor without data, or a value that cannot be pickled.
        StorageError: writing failed; `target` is as it was.
    """
    began = time.perf_counter()
    with torch.no_grad(), collector_paused():
        captured = capture(app_state, prepare, engine)
        captured_at = time.perf_counter()
        files, tensor_entries = plan_data_files(captured, options)
    planned = time.perf_counter()
    writes = DataWrites(engine, durable=durable, staging=staging, show_progress=show_progress)
    staged = StagedDirectory(target)
    with _discarded_on_error(staged, writes):
        for file in files[:_STARTED_EARLY]:
            _submit(writes, staged, captured, file)
        objects = store_objects(staged, captured, engine)
        entries = {**captured.flat.entries, **tensor_entries, **objects.entries}
        metadata = SnapshotMetadata(MANIFEST_VERSION, 1, entries)
        contents = _Contents(
            metadata=metadata,
            encoded_metadata=encode_metadata(metadata),
            data_files=[file.name for file in files],
            tensors=len(tensor_entries),
            objects=objects,
            state_dict_metadata=captured.flat.state_dict_metadata,
        )
        objects_at = time.perf_counter()
        for file in files[_STARTED_EARLY:]:
            _submit(writes, staged, captured, file)
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
        self._written = times.safe

    def wait_written(self, timeout_s: float | None = None) -> bool:
        """Step 5; False where it takes longer than `timeout_s`.

        Raises:
            StorageError: writing failed; the target is as it was.
        """
        with _discarded_on_error(self._staged, self.writes):
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
        with _discarded_on_error(self._staged, self.writes):
            check_target(self._staged.target, self._overwrite)
            index = self._index()
            unsynced = [
                *contents.objects.paths,
                *self._write_annex(index),
                self._staged.write(INDEX_FILE, encode_index(index, self._engine.digest)),
                self._staged.write(METADATA_FILE, contents.encoded_metadata),
            ]
            self._staged.commit(unsynced, self._engine.sync if self._durable else None, overwrite=self._overwrite)
        if self._annex is not None:
            self._annex.committed()
        ended = time.perf_counter()
        self._engine.trace("commit", began, ended)
        times = self._times
        stats = TakeStats(
            tensors=contents.tensors,
            objects=len(contents.objects.entries),
            nbytes=sum(record.nbytes for record in index.files.values()),
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
        nbytes = index.metadata.nbytes + sum(record.nbytes for record in index.files.values())
        paths = []
        for name, data in self._annex.files(nbytes).items():
            paths.append(self._staged.write(name, data))
            index.files[name] = record_of(data, self._engine)
        return paths

    def _index(self) -> SnapshotIndex:
        contents = self._contents
        records = {
            name: FileRecord(result.nbytes, result.digests.hex())
            for name, result in zip(contents.data_files, self.writes.results, strict=True)
        }
        records.update(contents.objects.records)
        return SnapshotIndex(
            format_version=INDEX_VERSION,
            writer=_WRITER,
            digest=DIGEST_NAME,
            chunk_nbytes=CHUNK_NBYTES,
            metadata=record_of(contents.encoded_metadata, self._engine),
            files=records,
            state_dict_metadata=contents.state_dict_metadata,
        )


def _submit(writes: DataWrites, staged: StagedDirectory, captured: CapturedState, file: DataFile) -> None:
    memories = [captured.dense[path] for path in file.paths]
    writes.submit(staged.create_path(file.name), extents_of(memories, header=file.header))


@contextmanager
def _discarded_on_error(staged: StagedDirectory, writes: DataWrites) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _discard(staged, writes)
        explained = _with_context(error, staged.target)
        if explained is error:
            raise
        raise explained from error
    except BaseException:
        _discard(staged, writes)
        raise


def _discard(staged: StagedDirectory, writes: DataWrites) -> None:
    writes.cancel_and_wait()
    staged.discard()


# Of these the caller knows best what to do, and expects Python's own types.
_PLAIN_ERRNOS = frozenset(
    {errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS, errno.EINTR}
)


def _with_context(error: OSError, snapshot_path: str) -> OSError:
    if isinstance(error, SucroseError) or error.errno is None or error.errno in _PLAIN_ERRNOS:
        return error
    file = os.fsdecode(error.filename) if error.filename else snapshot_path
    return StorageError(
        error.errno,
        f"saving {snapshot_path!r} failed and nothing was committed: {os.strerror(error.errno)}",
        file,
        path=file,
    )

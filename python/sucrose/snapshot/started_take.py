"""Steps 5 and 6 of a take, see take.py: waiting for what is being written, and the commit."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sucrose.errors import NotDurableError, RankError
from sucrose.formats.index import INDEX_FILE, SnapshotIndex, encode_index
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.signature import SIGNATURE_FILE, encode_signature
from sucrose.snapshot.arguments import check_target, replacing
from sucrose.snapshot.collective.merging import check_files
from sucrose.snapshot.collective.outcome import hear_outcome, tell_outcome
from sucrose.snapshot.collective.parts import gather_parts
from sucrose.snapshot.incremental.bases import base_paths
from sucrose.snapshot.incremental.dependents import lease_to_refer, note_dependent
from sucrose.snapshot.records import record_of
from sucrose.snapshot.take_contents import CommitRecord
from sucrose.snapshot.take_errors import explained
from sucrose.snapshot.take_stats import TakeStats
from sucrose.storage import JoinedDirectory, StagedDirectory

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.formats.index import FileRecord
    from sucrose.formats.manifest import SnapshotMetadata
    from sucrose.formats.signing_keys import Signer
    from sucrose.ranks import Exchange
    from sucrose.snapshot.annex import Annex
    from sucrose.snapshot.collective.parts import Part
    from sucrose.snapshot.data_writes import DataWrites
    from sucrose.snapshot.take_contents import TakeContents


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeTimes:
    """From time.perf_counter()."""

    began: float
    planned: float
    safe: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitTerms:
    """How a take is to be committed."""

    durable: bool
    overwrite: bool
    in_background: bool
    digest_kind: str
    annex: Annex | None
    signer: Signer | None


class StartedTake:
    """A take whose writes are under way. Belongs to one thread at a time; of `writes` the thread-safe methods do not.

    When a method has raised, the hidden directory is gone, nothing is under way, and the other ranks have been told.
    """

    def __init__(
        self,
        staged: StagedDirectory | JoinedDirectory,
        writes: DataWrites,
        contents: TakeContents,
        times: TakeTimes,
        terms: CommitTerms,
        engine: Engine,
        exchange: Exchange,
    ) -> None:
        self.writes = writes
        self._staged = staged
        self._contents = contents
        self._times = times
        self._terms = terms
        self._engine = engine
        self._exchange = exchange
        self._written = times.safe
        self._why: BaseException | None = None

    @property
    def target(self) -> str:
        """Absolute path of the snapshot; rank 0's."""
        return self._staged.target

    def wait_written(self, timeout_s: float | None = None) -> bool:
        """Step 5; False where it takes longer than `timeout_s`.

        Raises:
            StorageError: writing failed; the target is as it was.
            RankError: another rank has failed; the target is as it was.
        """
        with discarded_on_error(self._staged, self.writes, self._exchange, self._contents.data_nbytes):
            try:
                self._exchange.alive()
                is_written = self.writes.wait(timeout_s)
            except OSError:
                if self._why is not None:
                    self._exchange.fail(self._why)
                raise
        self._written = time.perf_counter()
        return is_written

    def commit(self) -> tuple[SnapshotMetadata | None, TakeStats]:
        """Step 6, after `wait_written` has returned true; on the ranks but 0 without the metadata, which they have not.

        Raises:
            FileExistsError: something has come to be at the target.
            NotDurableError: the snapshot is in place, and a power cut may undo that.
            StorageError: writing failed; the target is as it was.
            RankError: another rank has failed; the target is as it was.
        """
        began = time.perf_counter()
        contents = self._contents
        contents.add_data_files(self.writes.results)
        metadata = None
        files = contents.part.files
        with discarded_on_error(self._staged, self.writes, self._exchange, contents.data_nbytes):
            if isinstance(self._staged, JoinedDirectory):
                self._hand_in(self._staged)
            else:
                parts = gather_parts(self._exchange, contents.part)
                assert parts is not None  # rank 0, which has made the directory
                metadata, index = self._commit_all(self._staged, parts)
                files = index.own_files() if len(parts) == 1 else files
        self._staged.discard()
        self._exchange.close()
        if self._terms.annex is not None:
            self._terms.annex.committed()
        ended = time.perf_counter()
        self._engine.trace("commit", began, ended)
        return metadata, self._stats(files, began, ended)

    def cancel(self, why: BaseException) -> None:
        """Begins no further chunk, so that `wait_written` raises; `why` is for the other ranks. For any thread."""
        self._why = why
        self.writes.cancel()

    def alive(self) -> None:
        """Shows the other ranks that this one is at work."""
        self._exchange.alive()

    def abandon(self, why: BaseException) -> None:
        """Gives the take up: ends what is under way, removes the hidden directory, and tells the other ranks."""
        self._exchange.fail(why)
        discard(self._staged, self.writes, self._exchange)

    def _hand_in(self, staged: JoinedDirectory) -> None:
        """Gives rank 0 what it commits, and returns when it has."""
        sync = self._engine.sync if self._terms.durable else None
        if sync is not None:
            sync([*self._contents.objects.paths, *staged.directories])
        gather_parts(self._exchange, self._contents.part)
        hear_outcome(self._exchange, staged, sync)

    def _commit_all(self, staged: StagedDirectory, parts: list[Part]) -> tuple[SnapshotMetadata, SnapshotIndex]:
        contents, terms = self._contents, self._terms
        check_files(parts, staged)
        check_target(staged.target, terms.overwrite)
        record = contents.commit or CommitRecord.of(parts)
        index = contents.index(parts, record, self._engine, terms.digest_kind)
        unsynced = [
            *contents.objects.paths,
            *_folders_of_others(staged, parts),
            *self._write_annex(staged, index),
            *self._write_index(staged, index, record),
            *_note_at_bases(staged, index),
            staged.write(METADATA_FILE, record.encoded),
        ]
        self._exchange.alive()
        try:
            staged.commit(
                unsynced,
                self._engine.sync if terms.durable else None,
                overwrite=terms.overwrite,
                last_look=replacing(staged.target),
            )
        except NotDurableError as error:
            tell_outcome(self._exchange, error)
            raise
        tell_outcome(self._exchange)
        return record.metadata, index

    def _write_annex(self, staged: StagedDirectory, index: SnapshotIndex) -> list[str]:
        """Paths of the annex's files, which are added to the index."""
        annex, digest_kind = self._terms.annex, self._terms.digest_kind
        if annex is None:
            return []
        nbytes = index.metadata.nbytes + sum(record.nbytes for record in index.own_files().values())
        paths = []
        for name, data in annex.files(nbytes, sorted(index.bases)).items():
            paths.append(staged.write(name, data))
            index.files[name] = record_of(data, self._engine, digest_kind)
        return paths

    def _write_index(self, staged: StagedDirectory, index: SnapshotIndex, record: CommitRecord) -> list[str]:
        """Paths of the index, which is complete then, and of the signature where there is one."""
        encoded = encode_index(index, self._engine.digest)
        paths = [staged.write(INDEX_FILE, encoded)]
        if self._terms.signer is not None:
            signature = encode_signature(self._terms.signer, index=encoded, metadata=record.encoded)
            paths.append(staged.write(SIGNATURE_FILE, signature))
        return paths

    def _stats(self, files: dict[str, FileRecord], began: float, ended: float) -> TakeStats:
        contents, times = self._contents, self._times
        return TakeStats(
            tensors=contents.tensors,
            objects=len(contents.objects.entries),
            nbytes=sum(record.nbytes for record in files.values()),
            stored_nbytes=sum(record.nbytes_on_disk for record in files.values()),
            referred_nbytes=contents.referred_nbytes,
            staging=self.writes.staging(),
            stall_s=(times.safe if self._terms.in_background else ended) - times.began,
            capture_s=times.planned - times.began,
            write_s=self._written - times.planned,
            commit_s=ended - began,
            engine=self._engine.stats(),
        )


@contextmanager
def discarded_on_error(
    staged: StagedDirectory | JoinedDirectory, writes: DataWrites, exchange: Exchange, data_nbytes: int
) -> Iterator[None]:
    """Inside of it an error ends the take, on all ranks."""
    with explained(staged.target, lambda: data_nbytes + staged.small_nbytes):
        try:
            yield
        except BaseException as error:
            cause = _failure_behind(error, staged, exchange)
            exchange.fail(error)
            discard(staged, writes, exchange)
            if cause is not None:
                raise cause from error
            raise


def _failure_behind(
    error: BaseException, staged: StagedDirectory | JoinedDirectory, exchange: Exchange
) -> RankError | None:
    """That of another rank: after one, rank 0 removes the directory in which others still write."""
    if not isinstance(staged, JoinedDirectory) or getattr(error, "errno", None) not in (errno.ENOENT, errno.ESTALE):
        return None
    try:
        exchange.check()
    except RankError as failure:
        return failure
    return None


def discard(staged: StagedDirectory | JoinedDirectory, writes: DataWrites, exchange: Exchange) -> None:
    """Ends what is under way, and removes the hidden directory where it is this process's."""
    writes.cancel_and_wait()
    staged.discard()
    exchange.close()


def _folders_of_others(staged: StagedDirectory, parts: list[Part]) -> list[str]:
    names = {os.path.dirname(name) for part in parts[1:] for name in part.files}
    return [os.path.join(staged.root, name) for name in sorted(names)]


def _note_at_bases(staged: StagedDirectory, index: SnapshotIndex) -> list[str]:
    """Paths of the notes by which the snapshots that are referred to know of this one."""
    paths = []
    for base in base_paths(staged, index):
        staged.hold([lease_to_refer(base)])
        paths += note_dependent(base, staged.target)
    return paths

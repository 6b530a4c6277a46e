"""Steps 5 and 6 of a take, see take.py: waiting for what is being written, and the commit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sucrose.errors import NotDurableError, RankError
from sucrose.formats.index import SnapshotIndex, encode_index
from sucrose.formats.signature import encode_signature
from sucrose.snapshot.collective.outcome import hear_outcome, tell_outcome
from sucrose.snapshot.collective.parts import gather_parts
from sucrose.snapshot.places.place import CommitFiles, JoinedPlace, Place, StagedPlace
from sucrose.snapshot.records import record_of
from sucrose.snapshot.take_contents import CommitRecord
from sucrose.snapshot.take_errors import explained
from sucrose.snapshot.take_stats import TakeStats

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

    When a method has raised, nothing is left of it, nothing is under way, and the other ranks have been told.
    """

    def __init__(
        self,
        place: StagedPlace | JoinedPlace,
        writes: DataWrites,
        contents: TakeContents,
        times: TakeTimes,
        terms: CommitTerms,
        engine: Engine,
        exchange: Exchange,
    ) -> None:
        self.writes = writes
        self._place = place
        self._contents = contents
        self._times = times
        self._terms = terms
        self._engine = engine
        self._exchange = exchange
        self._written = times.safe
        self._why: BaseException | None = None

    @property
    def target(self) -> str:
        """Absolute path, or URL, of the snapshot; rank 0's."""
        return self._place.target

    def wait_written(self, timeout_s: float | None = None) -> bool:
        """Step 5; False where it takes longer than `timeout_s`.

        Raises:
            StorageError: writing failed; the target is as it was.
            RankError: another rank has failed; the target is as it was.
        """
        with discarded_on_error(self._place, self.writes, self._exchange, self._contents.data_nbytes):
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
        with discarded_on_error(self._place, self.writes, self._exchange, contents.data_nbytes):
            self._place.finish()
            parts = gather_parts(self._exchange, contents.part)
            if isinstance(self._place, StagedPlace):
                assert parts is not None  # it is rank 0's
                metadata, index = self._commit_all(self._place, parts)
                files = index.own_files() if len(parts) == 1 else files
                self._place.sweep()
            else:
                hear_outcome(self._exchange, self._place)
        self._place.discard()
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

    def give_up_waiting(self) -> None:
        """Other ranks are not waited for any more; what that ends is raised. For any thread."""
        self._exchange.give_up_waiting()

    def alive(self) -> None:
        """Shows the other ranks that this one is at work."""
        self._exchange.alive()

    def abandon(self, why: BaseException) -> None:
        """Gives the take up: ends what is under way, removes what is there, and tells the other ranks."""
        self._exchange.fail(why)
        discard(self._place, self.writes, self._exchange)

    def _commit_all(self, place: StagedPlace, parts: list[Part]) -> tuple[SnapshotMetadata, SnapshotIndex]:
        contents, terms = self._contents, self._terms
        place.check(parts, overwrite=terms.overwrite)
        record = contents.commit or CommitRecord.of(parts)
        index = contents.index(parts, record, self._engine, terms.digest_kind)
        self._write_annex(place, index)
        try:
            place.commit(self._commit_files(index, record), overwrite=terms.overwrite, alive=self._exchange.alive)
        except NotDurableError as error:
            tell_outcome(self._exchange, error)
            raise
        tell_outcome(self._exchange)
        return record.metadata, index

    def _write_annex(self, place: StagedPlace, index: SnapshotIndex) -> None:
        """Writes the annex's files, and adds them to the index."""
        annex, digest_kind = self._terms.annex, self._terms.digest_kind
        if annex is None:
            return
        nbytes = index.metadata.nbytes + sum(record.nbytes for record in index.own_files().values())
        for name, data in annex.files(nbytes, sorted(index.bases)).items():
            place.write(name, data)
            index.files[name] = record_of(data, self._engine, digest_kind)

    def _commit_files(self, index: SnapshotIndex, record: CommitRecord) -> CommitFiles:
        encoded, signer = encode_index(index, self._engine.digest), self._terms.signer
        signature = None if signer is None else encode_signature(signer, index=encoded, metadata=record.encoded)
        return CommitFiles(index=index, encoded_index=encoded, metadata=record.encoded, signature=signature)

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
def discarded_on_error(place: Place, writes: DataWrites, exchange: Exchange, data_nbytes: int) -> Iterator[None]:
    """Inside of it an error ends the take, on all ranks."""
    with explained(place.target, lambda: data_nbytes + place.small_nbytes):
        try:
            yield
        except BaseException as error:
            cause = _failure_behind(error, place, exchange)
            exchange.fail(error)
            discard(place, writes, exchange)
            if cause is not None:
                raise cause from error
            raise


def _failure_behind(error: BaseException, place: Place, exchange: Exchange) -> RankError | None:
    """That of another rank: after one, rank 0 removes the place in which others still write."""
    if not place.is_gone_by(error):
        return None
    try:
        exchange.check()
    except RankError as failure:
        return failure
    return None


def discard(place: Place, writes: DataWrites, exchange: Exchange) -> None:
    """Ends what is under way, and removes what it has left."""
    writes.cancel_and_wait()
    place.discard()
    exchange.close()

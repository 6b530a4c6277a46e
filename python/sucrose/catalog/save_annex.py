"""The record of a generation on its way into the snapshot."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

import msgspec

from sucrose.catalog.background import COLLECTOR
from sucrose.catalog.names import is_generation_name
from sucrose.errors import StorageError, SucroseError
from sucrose.formats.generation import GENERATION_FILE, MAX_COUNT, GenerationRecord, encode_generation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation
    from sucrose.catalog.retention import Retention


_ROOM_WITHIN_S = 60.0


class GenerationAnnex:
    """Implements `Annex`: writes `.generation`, and has older generations collected after the commit."""

    def __init__(
        self,
        draft: GenerationRecord,
        directory: CatalogDirectory,
        retention: Retention,
        *,
        increments: int = 0,
    ) -> None:
        """The draft lacks the size, the time and the bases; `increments` counts where there turn out to be any."""
        self._record = draft
        self._directory = directory
        self._retention = retention
        self._increments = increments

    @property
    def timeline(self) -> int:
        """That of the generation."""
        return self._record.timeline

    def make_room(self) -> bool:
        # What the save before this one has superseded may still be about to be removed.
        return COLLECTOR.wait_idle(_ROOM_WITHIN_S)

    def files(self, nbytes: int, bases: Sequence[str]) -> Mapping[str, bytes]:
        # Only now: those that were pending when this save began are committed.
        newest = self._directory.newest_record()
        committed_ns = time.time_ns()
        if newest is not None and (newest.timeline, newest.step) == (self._record.timeline, self._record.step):
            committed_ns = max(committed_ns, min(newest.committed_ns + 1, MAX_COUNT))  # whatever the clock says
        siblings = [base.removeprefix("../") for base in bases]
        self._record = msgspec.structs.replace(
            self._record,
            committed_ns=committed_ns,
            nbytes=nbytes,
            bases=[name for name in siblings if is_generation_name(name)],
            increments=self._increments if bases else 0,
        )
        return {GENERATION_FILE: encode_generation(self._record)}

    def committed(self) -> None:
        COLLECTOR.request(self._directory, self._retention)

    def generation(self) -> Generation:
        """What was committed."""
        return self._directory.generation(self._record, pinned=self._record.pinned)


class AnnexOfRank0(GenerationAnnex):
    """The same on other ranks, where rank 0 writes the record and collects: it is read once it is committed."""

    _failure: Exception | None = None

    def make_room(self) -> bool:
        return False

    def files(self, nbytes: int, bases: Sequence[str]) -> Mapping[str, bytes]:  # noqa: ARG002  # rank 0 is asked
        return {}

    def committed(self) -> None:
        try:
            self._record = self._directory.record_of(super().generation())
        except FileNotFoundError as error:
            self._failure = _unseen(self._directory.path_of(self._record.id))
            self._failure.__cause__ = error
        except (SucroseError, OSError) as error:  # the save itself has not failed
            self._failure = error

    def generation(self) -> Generation:
        """What was committed.

        Raises:
            StorageError: this rank does not find it.
            SucroseError: its record could not be read.
            OSError: likewise.
        """
        if self._failure is not None:
            raise self._failure
        return super().generation()


def _unseen(path: str) -> StorageError:
    return StorageError(
        errno.ESTALE,
        f"rank 0 has committed {path!r}, and this rank does not find it: a catalog of several ranks has to be on "
        "storage that all of them share",
        path,
        path=path,
    )

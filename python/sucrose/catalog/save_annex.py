"""The record of a generation on its way into the snapshot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from sucrose.catalog.background import COLLECTOR
from sucrose.catalog.generation import Generation, generation_of
from sucrose.catalog.names import is_generation_name
from sucrose.formats.generation import GENERATION_FILE, MAX_COUNT, GenerationRecord, encode_generation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.retention import Retention


_ROOM_WITHIN_S = 60.0


class GenerationAnnex:
    """Implements `Annex`: writes `.generation`, and has older generations collected after the commit."""

    def __init__(
        self,
        path: str,
        draft: GenerationRecord,
        directory: CatalogDirectory,
        retention: Retention,
        *,
        increments: int = 0,
    ) -> None:
        """The draft lacks the size, the time and the bases; `increments` counts where there turn out to be any."""
        self._path = path
        self._record = draft
        self._directory = directory
        self._retention = retention
        self._increments = increments

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
        return generation_of(self._record, self._path, pinned=self._record.pinned, signer=self._directory.signer)

"""The record of a generation on its way into the snapshot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from sucrose.catalog.background import COLLECTOR
from sucrose.catalog.generation import Generation, generation_of
from sucrose.formats.generation import GENERATION_FILE, GenerationRecord, encode_generation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.retention import Retention


class GenerationAnnex:
    """Implements `Annex`: writes `.generation`, and has older generations collected after the commit."""

    def __init__(self, path: str, draft: GenerationRecord, directory: CatalogDirectory, retention: Retention) -> None:
        """The draft lacks the size and the time."""
        self._path = path
        self._record = draft
        self._directory = directory
        self._retention = retention

    def files(self, nbytes: int) -> Mapping[str, bytes]:
        # Only now: those that were pending when this save began are committed.
        newest = self._directory.newest_record()
        committed_ns = time.time_ns()
        if newest is not None and (newest.timeline, newest.step) == (self._record.timeline, self._record.step):
            committed_ns = max(committed_ns, newest.committed_ns + 1)  # whatever the clock says
        self._record = msgspec.structs.replace(self._record, committed_ns=committed_ns, nbytes=nbytes)
        return {GENERATION_FILE: encode_generation(self._record)}

    def committed(self) -> None:
        COLLECTOR.request(self._directory, self._retention)

    def generation(self) -> Generation:
        """What was committed."""
        return generation_of(self._record, self._path, pinned=self._record.pinned)

"""The records of a catalog's generations, read side by side.

A generation can go while its neighbours are looked at, and a newer one, for which it went, may have come after the
names were listed. So whenever something has gone, everything is looked at again: a result never lacks both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, final

from sucrose.catalog.listing import read_record
from sucrose.catalog.objects.folders import FolderState, folder_names, state_of
from sucrose.errors import SucroseError
from sucrose.formats.generation import GenerationRecord
from sucrose.formats.manifest import METADATA_FILE
from sucrose.snapshot.remote.side_by_side import side_by_side
from sucrose.storage.objects import Storage
from sucrose.storage.objects.directory import ObjectDirectory

Found: TypeAlias = GenerationRecord | FolderState | Exception
_VANISHED = (FolderState.REMOVED, FolderState.GONE)


@final
class Records:
    """What the folders of one catalog hold, with the records that were read once: they do not change. Thread-safe.

    Args:
        storage: gives that of the catalog.
        concurrency: requests at a time.
    """

    def __init__(self, storage: Callable[[], Storage], concurrency: int) -> None:
        self._storage = storage
        self._concurrency = concurrency
        self._known: dict[str, GenerationRecord] = {}
        self._forgotten: set[str] = set()
        """Names that are never used again: a look that began before they were forgotten still has their records."""
        self._vanished: dict[str, Found] = {}
        """Those of the last look. Some stores list folders for ever of which nothing is left."""

    def known(self) -> Mapping[str, GenerationRecord]:
        """Those that were read, of generations that were there when they were last looked at."""
        return self._known.copy()

    def forget(self, name: str) -> None:
        """It is no generation any more."""
        self._forgotten.add(name)
        self._known.pop(name, None)

    def look(self, *, trusts_known: bool) -> dict[str, Found]:
        """Record, error or state of every folder that may be a generation's.

        Args:
            trusts_known: whether generations are taken to be there still whose records are known.

        Raises:
            StorageError: the store gives no answer.
        """
        storage = self._storage()
        vanished = set(self._vanished)
        while True:
            names = folder_names(storage)
            found = dict(
                zip(
                    names,
                    side_by_side(lambda name: self._look_at(storage, name, trusts_known), names, self._concurrency),
                    strict=True,
                )
            )
            self._known = {
                name: record
                for name, record in found.items()
                if isinstance(record, GenerationRecord) and name not in self._forgotten
            }
            for name in self._forgotten.copy():
                self._known.pop(name, None)
            self._vanished = {name: what for name, what in found.items() if what in _VANISHED}
            if vanished.issuperset(self._vanished):
                return found
            vanished.update(self._vanished)

    def _look_at(self, storage: Storage, name: str, trusts_known: bool) -> Found:
        record = self._known.get(name)
        if record is not None and trusts_known:
            return record
        if self._vanished.get(name) is FolderState.GONE and not storage.exists(f"{name}/{METADATA_FILE}"):
            return FolderState.GONE
        state = state_of(storage, name)
        if state is not FolderState.COMMITTED:
            return state
        if record is not None:
            return record
        try:
            return read_record(ObjectDirectory(storage.within(name)))
        except (SucroseError, OSError) as error:
            return error

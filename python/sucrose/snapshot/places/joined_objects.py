"""The place of a take in an object store, as the ranks have it that do not commit."""

from __future__ import annotations

from typing import final

from sucrose.formats.limits import MAX_METADATA_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.snapshot.places.objects import ObjectsPlace
from sucrose.snapshot.places.place import JoinedPlace


@final
class JoinedObjects(ObjectsPlace, JoinedPlace):
    """Once this rank's files are handed over they are rank 0's: it may commit them later than anybody waits for it."""

    _is_handed_over = False

    def finish(self) -> None:
        super().finish()
        self._is_handed_over = True

    def discard(self) -> None:
        self._end_all()
        if self._names and not self._is_handed_over:
            self._delete(self._names)
        self._is_handed_over = True

    def is_in_place(self) -> bool:
        try:
            record = self._storage.read(METADATA_FILE, MAX_METADATA_NBYTES)
        except Exception:  # noqa: BLE001 - as far as can be seen
            return False
        return f"/{self._tag}/".encode() in record

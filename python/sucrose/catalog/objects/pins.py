"""The markers of pins as empty objects."""

from __future__ import annotations

from collections.abc import Callable

from sucrose.catalog.names import PINS
from sucrose.catalog.pins import PINNED, UNPINNED, Pins, marks_of
from sucrose.storage.objects import Storage


class ObjectPins(Pins):
    """Objects below one prefix.

    Args:
        storage: gives that of the catalog.
    """

    def __init__(self, storage: Callable[[], Storage]) -> None:
        self._storage = storage

    def marks(self) -> dict[str, bool]:
        prefix = f"{PINS}/"
        return marks_of(file.name.removeprefix(prefix) for file in self._storage().list(prefix))

    def set(self, generation_id: str, *, pinned: bool) -> None:
        marker, other = (PINNED, UNPINNED) if pinned else (UNPINNED, PINNED)
        self._storage().put(_name(generation_id, marker), b"")
        self._storage().delete([_name(generation_id, other)])

    def is_pinned(self, generation_id: str, *, by_record: bool) -> bool:
        if self._storage().exists(_name(generation_id, PINNED)):
            return True
        return by_record and not self._storage().exists(_name(generation_id, UNPINNED))

    def forget(self, generation_id: str) -> None:
        self._storage().delete([_name(generation_id, marker) for marker in (PINNED, UNPINNED)])


def _name(generation_id: str, marker: str) -> str:
    return f"{PINS}/{generation_id}{marker}"

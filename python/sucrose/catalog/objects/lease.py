"""What a reader of a generation in an object store has in the place of a lock: nothing but a look."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, final

from sucrose.formats.manifest import METADATA_FILE
from sucrose.storage.objects import Storage
from sucrose.storage.objects.shared import shared_storage


@final
class ObjectLease:
    """Stands where a `Lease` does on file systems, and keeps nobody from removing anything. Thread-safe.

    Attributes:
        path: URL of the generation.
        is_held: false, as there is no lock.
    """

    is_held = False

    def __init__(self, storage: Storage) -> None:
        self.path = storage.url
        self._storage = storage

    def is_current(self) -> bool:
        """Whether the generation is still there: whoever removes it takes its commit record away first."""
        return self._storage.exists(METADATA_FILE)

    def release(self) -> None:
        """There is nothing to give back."""

    def __enter__(self) -> ObjectLease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass


def lease_object(url: str, storage_options: Mapping[str, Any] | None) -> ObjectLease | None:
    """For reading the generation at `url`; None where it is gone.

    Raises:
        StorageError: the store does not say.
    """
    lease = ObjectLease(shared_storage(url, storage_options))
    return lease if lease.is_current() else None

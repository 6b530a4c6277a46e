"""Storages that are opened again and again share their client: making one takes longer than most requests."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from sucrose.storage.objects.base import Storage
from sucrose.storage.objects.names import split_url
from sucrose.storage.objects.options import StorageOptions
from sucrose.storage.objects.registry import Opener, open_storage, registered_opener

_IN_BUCKETS = frozenset({"memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""Schemes whose clients are for a bucket, and serve everything in it."""

_MAX_KEPT = 8
_VARIABLES = ("AWS_", "AZURE_", "BOTO", "GCS", "GOOGLE_", "STORAGE_EMULATOR_HOST")
"""Beginnings of those that vendors' clients look at when they are made."""


class _Kept(NamedTuple):
    pid: int
    """Connections do not survive a fork."""
    url: str
    options: StorageOptions
    environment: dict[str, str]
    opener: Opener | None
    storage: Storage


class _Clients:
    """Those that were used last, at most `_MAX_KEPT`, in that order. Any thread may ask."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._lock = threading.RLock()  # a signal handler may come in the middle
        os.register_at_fork(after_in_child=self._unlock)  # another thread of the parent may hold it

    def _unlock(self) -> None:
        self._lock = threading.RLock()

    def storage_of(self, bucket: str, storage_options: Mapping[str, Any] | None) -> Storage:
        """The storage of all of a bucket."""
        sought = (
            os.getpid(),
            bucket,
            StorageOptions.parse(storage_options),
            {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)},
            registered_opener(bucket.partition("://")[0]),
        )
        with self._lock:
            found = next((kept for kept in self._kept if kept[:-1] == sought), None)
            if found is None:
                found = _Kept(*sought, open_storage(bucket, storage_options))
                del self._kept[: max(0, len(self._kept) + 1 - _MAX_KEPT)]
            else:
                self._kept.remove(found)
            self._kept.append(found)
        return found.storage


_clients = _Clients()


def shared_storage(url: str, storage_options: Mapping[str, Any] | None = None) -> Storage:
    """The storage below a URL, which is not to be closed. Nothing is sent yet.

    Calls with URLs in one bucket and equal options get the same client, as long as the environment is the same.

    Args:
        url: ``scheme://…``.
        storage_options: see `StorageOptions`.

    Raises:
        ConfigError: as `open_storage`.
    """
    scheme = url.partition("://")[0]
    if scheme not in _IN_BUCKETS:
        return open_storage(url, storage_options)
    bucket, _, folder = split_url(url.rstrip("/"))
    storage = _clients.storage_of(bucket, storage_options)
    return storage.within(folder) if folder else storage

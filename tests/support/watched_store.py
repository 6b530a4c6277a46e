"""A store in memory whose requests a test counts, holds up, or lets fail."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sucrose.storage.objects import Backend, ObjectStorage, Page, PartLimits, PendingUpload, StorageOptions
from sucrose.storage.objects.memory import MemoryBackend
from sucrose.storage.objects.registry import register_storage

SCHEME = "watched"


class Asked(NamedTuple):
    """One request."""

    method: str
    key: str


class WatchedStore(Backend):
    """`before` and `after` are called with every request, in the thread that makes it, and may raise or wait."""

    def __init__(self, limits: PartLimits | None = None) -> None:
        self.limits = limits or PartLimits()
        self.inner = MemoryBackend()
        self.asked: list[Asked] = []
        self.before: Callable[[Asked], object] = _nothing
        self.after: Callable[[Asked], object] = _nothing
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    def storage(self, **options: Any) -> ObjectStorage:
        return ObjectStorage(self, f"{SCHEME}://bucket", "run", StorageOptions.parse(options))

    def keys(self) -> list[str]:
        return sorted(self.inner._objects)  # hidden ones, too

    def uploads(self) -> int:
        return len(self.inner._uploads)  # of any age

    def fetch(self, key: str, max_nbytes: int | None) -> bytes:
        return self._ask("fetch", key, lambda: self.inner.fetch(key, max_nbytes))

    def fetch_into(self, key: str, offset: int, into: memoryview) -> int:
        return self._ask("fetch_into", key, lambda: self.inner.fetch_into(key, offset, into))

    def size(self, key: str) -> int:
        return self._ask("size", key, lambda: self.inner.size(key))

    def page(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        return self._ask("page", prefix, lambda: self.inner.page(prefix, token, by_folder=by_folder))

    def put(self, key: str, data: memoryview, *, if_absent: bool = False) -> None:
        self._ask("put", key, lambda: self.inner.put(key, data, if_absent=if_absent))

    def begin(self, key: str) -> str:
        return self._ask("begin", key, lambda: self.inner.begin(key))

    def put_part(self, key: str, upload_id: str, number: int, data: Sequence[memoryview]) -> str:
        return self._ask("put_part", key, lambda: self.inner.put_part(key, upload_id, number, data))

    def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> None:
        self._ask("complete", key, lambda: self.inner.complete(key, upload_id, tags))

    def abort(self, key: str, upload_id: str) -> None:
        self._ask("abort", key, lambda: self.inner.abort(key, upload_id))

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        return self._ask("pending", prefix, lambda: self.inner.pending(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        self._ask("delete", keys[0], lambda: self.inner.delete(keys))

    def close(self) -> None:
        """Others may use it still."""

    def _ask(self, method: str, key: str, request: Callable[[], Any]) -> Any:
        asked = Asked(method, key)
        with self._lock:
            self.asked.append(asked)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.before(asked)
            answer = request()
            self.after(asked)
        finally:
            with self._lock:
                self.at_once -= 1
        return answer


def serve(store: WatchedStore) -> str:
    """A URL at which the store is served in this process."""
    scheme = f"{SCHEME}{uuid.uuid4().hex[:8]}"

    def open_url(url: str, options: StorageOptions) -> ObjectStorage:
        _, _, prefix = url.partition("://bucket/")
        return ObjectStorage(store, f"{scheme}://bucket", prefix, options)

    register_storage(scheme, open_url)
    return f"{scheme}://bucket/run/step_1"


def _nothing(_asked: Asked) -> None:
    pass

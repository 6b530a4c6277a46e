"""Folders of this machine as they lie in object stores: one object for each file."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sucrose.storage.objects import Storage
from sucrose.storage.objects.memory import MemoryBackend


def new_bucket() -> str:
    """The URL of an empty one, in memory."""
    return f"memory://{uuid.uuid4().hex}"


def put_folder(storage: Storage, folder: Path) -> Storage:
    """Puts all files that lie below the folder into the storage."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.put(path.relative_to(folder).as_posix(), path.read_bytes())
    return storage


def rename_to_digests(storage: Storage) -> None:
    """Gives index and signature the names that takes to object stores give them."""
    from sucrose.formats.index import index_names
    from sucrose.formats.signature import signature_names

    metadata = storage.read(".snapshot_metadata")
    for new, old in (index_names(metadata), signature_names(metadata)):
        if storage.exists(old):
            storage.put(new, storage.read(old))
            storage.delete([old])


class Requests:
    """What the objects in memory were asked for.

    Attributes:
        counts: calls, by the method's name.
        most_at_once: of `fetch` and `fetch_into`.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def begun(self, method: str) -> None:
        with self._lock:
            self.counts[method] += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)

    def ended(self) -> None:
        with self._lock:
            self._now -= 1


@contextmanager
def counted_requests(monkeypatch: pytest.MonkeyPatch, *, pause_s: float = 0.0) -> Iterator[Requests]:
    """Counts what is asked of objects in memory; each request may take a while."""
    requests = Requests()
    wait = threading.Event().wait

    def counting(method: str) -> Any:
        real = getattr(MemoryBackend, method)

        def call(backend: MemoryBackend, *arguments: Any, **options: Any) -> Any:
            requests.begun(method)
            try:
                wait(pause_s)
                return real(backend, *arguments, **options)
            finally:
                requests.ended()

        return call

    with monkeypatch.context() as patch:
        for method in ("fetch", "fetch_into", "size", "page"):
            patch.setattr(MemoryBackend, method, counting(method))
        yield requests


def threads_that_stay() -> set[str]:
    """Those that carry bytes from object stores to the engine, and do not end within some seconds."""
    deadline = time.monotonic() + 60
    while True:
        found = {thread.name for thread in threading.enumerate() if thread.name == "sucrose-download"}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.005)

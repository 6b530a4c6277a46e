"""``memory://``: objects that live as long as the process, for tests and examples."""

from __future__ import annotations

import datetime
import threading
import uuid
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import ClassVar, final

from sucrose.storage.objects.backend import Backend, ListedKey, Page, PendingUpload
from sucrose.storage.objects.base import PartLimits
from sucrose.storage.objects.names import split_url
from sucrose.storage.objects.object_storage import ObjectStorage
from sucrose.storage.objects.options import StorageOptions

_PAGE = 1000


@final
class MemoryBackend(Backend):
    """Objects in a dictionary. Objects with one name, as from two calls with one URL, share it."""

    limits = PartLimits()
    _buckets: ClassVar[dict[str, MemoryBackend]] = {}
    _guard = threading.Lock()

    @classmethod
    def bucket(cls, name: str) -> MemoryBackend:
        """The one of that name."""
        with cls._guard:
            return cls._buckets.setdefault(name, cls())

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, tuple[bytes, datetime.datetime]] = {}
        self._uploads: dict[tuple[str, str], tuple[dict[int, bytes], datetime.datetime]] = {}

    def fetch(self, key: str, max_nbytes: int | None) -> bytes:
        data = self._bytes(key)
        return data if max_nbytes is None else data[: max_nbytes + 1]

    def fetch_into(self, key: str, offset: int, into: memoryview) -> int:
        part = memoryview(self._bytes(key))[offset : offset + into.nbytes]
        into[: part.nbytes] = part
        return part.nbytes

    def size(self, key: str) -> int:
        return len(self._bytes(key))

    def page(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        with self._lock:
            sizes = {key: (len(data), at) for key, (data, at) in self._objects.items() if key.startswith(prefix)}
        found: dict[str, ListedKey | None] = {}
        for key in sorted(sizes):
            folder, separator, _ = key[len(prefix) :].partition("/")
            if by_folder and separator:
                found[f"{prefix}{folder}/"] = None
            else:
                found[key] = ListedKey(key=key, nbytes=sizes[key][0], modified=sizes[key][1])
        names = list(found)
        begin = bisect_right(names, token) if token is not None else 0
        some = names[begin : begin + _PAGE]
        return Page(
            objects=[listed for name in some if (listed := found[name]) is not None],
            folders=[name for name in some if found[name] is None],
            next_token=some[-1] if begin + _PAGE < len(names) else None,
        )

    def put(self, key: str, data: memoryview, *, if_absent: bool = False) -> None:
        copy = bytes(data)
        with self._lock:
            if if_absent and key in self._objects:
                raise FileExistsError(17, "there is an object of that name", key)
            self._objects[key] = copy, _now()

    def begin(self, key: str) -> str:
        upload_id = uuid.uuid4().hex
        with self._lock:
            self._uploads[key, upload_id] = {}, _now()
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, data: Sequence[memoryview]) -> str:
        copy = b"".join(data)
        with self._lock:
            self._parts(key, upload_id)[number] = copy
        return str(number)

    def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> None:
        with self._lock:
            parts = self._parts(key, upload_id)
            self._objects[key] = b"".join(parts[int(tag)] for tag in tags), _now()
            del self._uploads[key, upload_id]

    def abort(self, key: str, upload_id: str) -> None:
        with self._lock:
            self._uploads.pop((key, upload_id), None)

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        with self._lock:
            uploads = [(key, upload_id, begun) for (key, upload_id), (_, begun) in self._uploads.items()]
        for key, upload_id, begun in uploads:
            if key.startswith(prefix):
                yield PendingUpload(key=key, upload_id=upload_id, begun=begun)

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._objects.pop(key, None)

    def close(self) -> None:
        """Others may use the same objects."""

    def _bytes(self, key: str) -> bytes:
        with self._lock:
            if key not in self._objects:
                raise FileNotFoundError(2, "there is no such object", key)
            return self._objects[key][0]

    def _parts(self, key: str, upload_id: str) -> dict[int, bytes]:
        if (key, upload_id) not in self._uploads:
            raise FileNotFoundError(2, "there is no such upload", key)
        return self._uploads[key, upload_id][0]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def open_url(url: str, options: StorageOptions) -> ObjectStorage:
    """``memory://name/prefix``."""
    base, bucket, prefix = split_url(url)
    return ObjectStorage(MemoryBackend.bucket(bucket), base, prefix, options)

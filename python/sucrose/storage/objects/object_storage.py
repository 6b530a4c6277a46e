"""`Storage` over single requests to an object store."""

from __future__ import annotations

import datetime
import errno
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar, final

from sucrose.errors import CorruptionError, ObjectExistsError, ObjectNotFoundError, ReadOnlyStorageError, StorageError
from sucrose.storage.objects.backend import Backend, Page
from sucrose.storage.objects.base import AbandonedUpload, Bytes, Storage, StoredFile
from sucrose.storage.objects.names import is_hidden, key_of, prefix_beside
from sucrose.storage.objects.object_upload import ObjectUpload
from sucrose.storage.objects.options import StorageOptions
from sucrose.storage.objects.pieces import pieces_of
from sucrose.storage.objects.retries import call_with_retries
from sucrose.storage.objects.slots import Slots

T = TypeVar("T")
_DELETED_AT_ONCE = 1000


@final
class ObjectStorage(Storage):
    """Files whose keys begin with one prefix. Any thread may call anything.

    Args:
        backend: makes the requests; closed with this object.
        base_url: of the bucket or container, such as ``s3://bucket``.
        prefix: of the keys, without a ``/`` at either end.
        options: retries, and the number of requests at a time.
        requests: limits that number, for several storages that share it.
    """

    def __init__(
        self,
        backend: Backend,
        base_url: str,
        prefix: str,
        options: StorageOptions,
        *,
        requests: Slots | None = None,
    ) -> None:
        self.backend = backend
        self.options = options
        self.concurrency = options.concurrency
        self.limits = backend.limits
        self.is_read_only = backend.is_read_only
        self.url = f"{base_url}/{prefix}" if prefix else base_url
        self._base_url = base_url
        self._prefix = f"{prefix}/" if prefix else ""
        self._requests = requests or Slots(options.concurrency)

    def within(self, folder: str) -> ObjectStorage:
        prefix = key_of(self.url, self._prefix, folder)
        return ObjectStorage(self.backend, self._base_url, prefix, self.options, requests=self._requests)

    def beside(self, folder: str) -> ObjectStorage:
        prefix = prefix_beside(self.url, self._prefix, folder)
        return ObjectStorage(self.backend, self._base_url, prefix, self.options, requests=self._requests)

    def read(self, name: str, max_nbytes: int | None = None) -> bytes:
        key = self._key(name)
        data = self.call("reading", key, lambda _: self.backend.fetch(key, max_nbytes))
        if max_nbytes is not None and len(data) > max_nbytes:
            url = self.url_of(key)
            raise CorruptionError(f"{url} is longer than the {max_nbytes} bytes that such a file may have", path=url)
        return data

    def read_into(self, name: str, offset: int, into: memoryview) -> None:
        key = self._key(name)
        if not into.nbytes:
            return
        # Attempts that have failed live on in the frames of their errors until these are collected: without the memory.
        with into.cast("B") as flat:
            found = self.call("reading", key, lambda _: self.backend.fetch_into(key, offset, flat))
        if found != into.nbytes:
            url = self.url_of(key)
            raise CorruptionError(
                f"{url} has {offset + found} bytes or fewer, expected {offset + into.nbytes}: it is cut short, or not "
                "the file that was written",
                path=url,
                offset=offset + found,
            )

    def size(self, name: str) -> int:
        key = self._key(name)
        return self.call("looking at", key, lambda _: self.backend.size(key))

    def exists(self, name: str) -> bool:
        try:
            self.size(name)
        except ObjectNotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        start = self._prefix + prefix
        for page in self._pages(start, by_folder=False):
            for listed in page.objects:
                name = listed.key[len(self._prefix) :]
                # Consoles of stores mark folders with an empty object whose key ends in a slash.
                if name and not name.endswith("/") and not is_hidden(name):
                    yield StoredFile(name=name, nbytes=listed.nbytes, modified=listed.modified)

    def folders(self, folder: str = "") -> Iterator[str]:
        start = f"{self._key(folder)}/" if folder else self._prefix
        for page in self._pages(start, by_folder=True):
            for key in page.folders:
                name = key[len(start) :].rstrip("/")
                if name and not is_hidden(key):
                    yield name

    def put(self, name: str, data: Bytes, *, if_absent: bool = False) -> None:
        key = self._writable_key(name)
        pieces = pieces_of(data)
        whole = pieces[0] if pieces else memoryview(b"")
        if if_absent and self.exists(name):  # not every store knows of such requests
            raise self._taken(key)
        if whole.nbytes > self.limits.max_nbytes:
            self._put_in_parts(name, whole)
        elif if_absent:
            self.call("writing", key, lambda attempt: self._put_if_absent(key, whole, attempt))
        else:
            self.call("writing", key, lambda _: self.backend.put(key, whole))

    def upload(self, name: str, nbytes: int | None = None) -> ObjectUpload:
        return ObjectUpload(self, self._writable_key(name), nbytes)

    def delete(self, names: Iterable[str]) -> None:
        keys = iter([self._writable_key(name) for name in names])
        while some := list(islice(keys, _DELETED_AT_ONCE)):
            self.call("deleting", some[0], lambda _, some=some: self.backend.delete(some))  # type: ignore[misc]

    def abandoned_uploads(self, older_than_s: float) -> Iterator[AbandonedUpload]:
        latest = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=older_than_s)
        pending = self.call("listing uploads below", self._prefix, lambda _: list(self.backend.pending(self._prefix)))
        for upload in pending:
            if upload.begun is None or upload.begun <= latest:
                name = upload.key[len(self._prefix) :]
                yield AbandonedUpload(name=name, upload_id=upload.upload_id, begun=upload.begun)

    def abort_abandoned(self, older_than_s: float) -> int:
        count = 0
        for upload in list(self.abandoned_uploads(older_than_s)):
            key, upload_id = self._writable_key(upload.name), upload.upload_id
            try:
                self.call(
                    "aborting an upload of",
                    key,
                    lambda _, key=key, upload_id=upload_id: self.backend.abort(key, upload_id),  # type: ignore[misc]
                )
            except ObjectNotFoundError:
                continue  # somebody else was faster
            count += 1
        return count

    def close(self) -> None:
        self.backend.close()

    def call(self, doing: str, key: str, operation: Callable[[int], T], *, repeatable: bool = True) -> T:
        """One request, tried again as often as it makes sense; at most `concurrency` of them at a time.

        Raises:
            SucroseError: what has failed at last.
        """

        def one(attempt: int) -> T:
            return self._requests.run(lambda: operation(attempt))  # holds no slot during the pauses

        return call_with_retries(one, self.options, doing, self.url_of(key), repeatable=repeatable)

    def url_of(self, key: str) -> str:
        """What messages call an object."""
        return f"{self._base_url}/{key}"

    def _key(self, name: str) -> str:
        return key_of(self.url, self._prefix, name)

    def _writable_key(self, name: str) -> str:
        key = self._key(name)
        if self.is_read_only:
            url = self.url_of(key)
            raise ReadOnlyStorageError(
                errno.EROFS, f"{url} cannot be written: {url.partition('://')[0]}:// is for reading only", url, path=url
            )
        return key

    def _pages(self, start: str, *, by_folder: bool) -> Iterator[Page]:
        token: str | None = None
        while True:
            page = self.call("listing", start, lambda _, at=token: self.backend.page(start, at, by_folder=by_folder))  # type: ignore[misc]
            yield page
            if page.next_token is None:
                return
            if page.next_token == token:
                url = self.url_of(start)
                raise StorageError(errno.EPROTO, f"listing {url}: the store repeats a page for ever", url, path=url)
            token = page.next_token

    def _put_if_absent(self, key: str, data: memoryview, attempt: int) -> None:
        try:
            self.backend.put(key, data, if_absent=True)
        except FileExistsError:
            # The answer to an earlier attempt may have been lost, and it be that one's file.
            if attempt == 1 or self.backend.fetch(key, data.nbytes) != data:
                raise self._taken(key) from None

    def _taken(self, key: str) -> ObjectExistsError:
        url = self.url_of(key)
        return ObjectExistsError(errno.EEXIST, f"{url} is there already", url, path=url)

    def _put_in_parts(self, name: str, data: memoryview) -> None:
        with self.upload(name, data.nbytes) as upload:
            for number, offset in enumerate(range(0, data.nbytes, upload.part_nbytes), 1):
                upload.write_part(number, data[offset : offset + upload.part_nbytes])
            upload.complete()

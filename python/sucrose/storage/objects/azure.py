"""``az://``: Azure Blob Storage, through the client of adlfs.

The blocks of an upload belong to the name of the blob, not to the upload: of two that are under way for one name, the
second to complete fails. Azure drops blocks that are never committed after a week; `abort` does so at once, unless
there is an older blob of that name, which it leaves alone.
"""

from __future__ import annotations

import base64
import errno
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, final

from sucrose.errors import ConfigError
from sucrose.storage.objects.backend import Backend, ListedKey, Page, PendingUpload
from sucrose.storage.objects.base import PartLimits
from sucrose.storage.objects.client_options import warn_of_ignored_options
from sucrose.storage.objects.event_loop import EventLoop, Progress
from sucrose.storage.objects.extras import import_client
from sucrose.storage.objects.names import split_url
from sucrose.storage.objects.object_storage import ObjectStorage
from sucrose.storage.objects.options import StorageOptions
from sucrose.storage.objects.part_body import PartBody

_TAKEN = frozenset({409, 412})  # there is a blob, and the request was to be carried out only where there is none


@final
class AzureBackend(Backend):
    """Blobs of one container.

    Args:
        container: its name.
        options: of the storage.
        adlfs: the module.
    """

    limits = PartLimits(min_nbytes=1, max_nbytes=4000 << 20, max_count=50_000)

    def __init__(self, container: str, options: StorageOptions, adlfs: Any) -> None:
        self._fs = adlfs.AzureBlobFileSystem(**client_arguments(options), skip_instance_cache=True)
        warn_of_ignored_options(options, type(self._fs))
        self._container = container
        self._limits = {  # of each request
            "retry_total": 0,  # retries are ours
            "connection_timeout": options.connect_timeout_s,
            "read_timeout": options.answer_timeout_s,
        }
        self._loop = EventLoop(
            self._fs.loop, stall_timeout_s=options.stall_timeout_s, answer_timeout_s=options.answer_timeout_s
        )

    def fetch(self, key: str, max_nbytes: int | None) -> bytes:
        data = bytearray()
        # An empty blob has no range; the client leaves one away where none is asked for.
        end = None if max_nbytes is None else max_nbytes + 1
        self._loop.transfer(lambda progress: self._receive(key, 0, end, data.extend, progress))
        return bytes(data)

    def fetch_into(self, key: str, offset: int, into: memoryview) -> int:
        found = 0

        def fill(data: bytes) -> None:
            nonlocal found
            some = data[: into.nbytes - found]
            into[found : found + len(some)] = some
            found += len(some)

        try:
            self._loop.transfer(lambda progress: self._receive(key, offset, into.nbytes, fill, progress))
        except Exception as error:
            if getattr(error, "status_code", None) == 416:  # it begins behind the end
                return 0
            raise
        return found

    def size(self, key: str) -> int:
        return int(self._ask(lambda: self._blob(key).get_blob_properties(**self._limits)).size)

    def page(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        async def request() -> Page:
            container = self._fs.service_client.get_container_client(self._container)
            walk = container.walk_blobs if by_folder else container.list_blobs
            pages = walk(name_starts_with=prefix, **self._limits).by_page(continuation_token=token)
            objects, folders = [], []
            async for found in await _next_page(pages):
                if by_folder and found.name.endswith("/"):
                    folders.append(found.name)
                else:
                    objects.append(ListedKey(key=found.name, nbytes=found.size or 0, modified=found.last_modified))
            return Page(objects=objects, folders=folders, next_token=pages.continuation_token or None)

        page: Page = self._ask(request)
        return page

    def put(self, key: str, data: memoryview, *, if_absent: bool = False) -> None:
        headers = {"x-ms-blob-type": "BlockBlob", **({"If-None-Match": "*"} if if_absent else {})}

        async def request(progress: Progress) -> None:
            body: Any = PartBody([data], progress) if data.nbytes else b""
            await self._blob(key)._client.block_blob.upload(  # noqa: SLF001  # the public call splits into blocks
                content_length=data.nbytes, body=body, headers=headers, **self._limits
            )

        try:
            self._loop.transfer(request)
        except Exception as error:
            if not if_absent or getattr(error, "status_code", None) not in _TAKEN:
                raise
            raise FileExistsError(errno.EEXIST, "there is a blob of that name", key) from error

    def begin(self, key: str) -> str:
        return uuid.uuid4().hex

    def put_part(self, key: str, upload_id: str, number: int, data: Sequence[memoryview]) -> str:
        block = base64.b64encode(f"{upload_id}{number:06d}".encode()).decode()

        async def request(progress: Progress) -> None:
            body = PartBody(data, progress)
            await self._blob(key).stage_block(block, body, length=len(body), **self._limits)

        self._loop.transfer(request)
        return block

    def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> None:
        from azure.storage.blob import BlobBlock

        blocks = [BlobBlock(tag) for tag in tags]
        self._ask(lambda: self._blob(key).commit_block_list(blocks, **self._limits))

    def abort(self, key: str, upload_id: str) -> None:
        from azure.core import MatchConditions

        async def request() -> None:
            blob = self._blob(key)
            try:  # only a commit drops the blocks
                made = await blob.commit_block_list([], match_condition=MatchConditions.IfMissing, **self._limits)
            except Exception as error:
                if getattr(error, "status_code", None) not in _TAKEN:
                    raise
                return
            await blob.delete_blob(etag=made["etag"], match_condition=MatchConditions.IfNotModified, **self._limits)

        self._ask(request)

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        async def request() -> list[PendingUpload]:
            container = self._fs.service_client.get_container_client(self._container)
            files = {blob.name async for blob in container.list_blobs(name_starts_with=prefix, **self._limits)}
            everything = container.list_blobs(name_starts_with=prefix, include=["uncommittedblobs"], **self._limits)
            return [
                PendingUpload(key=blob.name, upload_id=blob.name, begun=blob.last_modified)
                async for blob in everything
                if blob.name not in files
            ]

        return iter(self._ask(request))

    def delete(self, keys: Sequence[str]) -> None:
        async def one(key: str) -> None:
            try:
                await self._blob(key).delete_blob(**self._limits)
            except Exception as error:
                if getattr(error, "error_code", None) != "BlobNotFound":
                    raise

        for key in keys:
            self._ask(lambda key=key: one(key))  # type: ignore[misc]  # mypy cannot infer a lambda with a default

    def close(self) -> None:
        self._ask(self._fs.service_client.close)

    def _blob(self, key: str) -> Any:
        return self._fs.service_client.get_blob_client(self._container, key)

    def _ask(self, request: Callable[[], Awaitable[Any]]) -> Any:
        async def ask() -> Any:  # the client wants to be called on the loop
            return await request()

        return self._loop.ask(ask())

    async def _receive(
        self, key: str, offset: int, nbytes: int | None, take: Callable[[bytes], object], progress: Progress
    ) -> None:
        place = {} if nbytes is None else {"offset": offset, "length": nbytes}
        answer = await self._blob(key).download_blob(**place, max_concurrency=1, **self._limits)
        async for data in answer.chunks():
            take(data)
            progress.advance(len(data))


def open_url(url: str, options: StorageOptions) -> ObjectStorage:
    """``az://container/prefix``, and ``abfs://container@account.dfs.core.windows.net/prefix``."""
    adlfs = import_client("adlfs", url, "azure")
    base, bucket, prefix = split_url(url)
    container, _, host = bucket.partition("@")
    if host and "account_name" not in options.client:
        account = {"account_name": host.partition(".")[0], **options.client}
        options = StorageOptions.parse({**_as_given(options), "client": account})
    try:
        backend = AzureBackend(container, options, adlfs)
    except ValueError as error:  # adlfs finds no account
        raise ConfigError(
            f"{base}: {error}. Give account_name and account_key, or connection_string, in storage_options or the "
            "AZURE_STORAGE_* variables",
            path=base,
        ) from error
    return ObjectStorage(backend, base, prefix, options)


def client_arguments(options: StorageOptions) -> dict[str, Any]:
    """What adlfs is called with.

    Raises:
        ConfigError: an endpoint is given without the account's name and key.
    """
    given = {"use_listings_cache": False, **options.client}
    if options.endpoint is None or "connection_string" in given:
        return given
    name, key = given.get("account_name"), given.get("account_key")
    if not name or not key:
        raise ConfigError(
            "storage_options: an endpoint for Azure goes with account_name and account_key, or in a connection_string",
            key="endpoint",
        )
    protocol = options.endpoint.partition("://")[0]
    text = f"DefaultEndpointsProtocol={protocol};AccountName={name};AccountKey={key};BlobEndpoint={options.endpoint};"
    return {**given, "connection_string": text}


async def _next_page(pages: Any) -> Any:
    """The next page; an empty one after the last."""
    try:
        return await pages.__anext__()
    except StopAsyncIteration:
        return _none()


async def _none() -> AsyncIterator[Any]:
    return
    yield


def _as_given(options: StorageOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in StorageOptions.__slots__}

"""``gs://``: Google Cloud Storage, through the session and the credentials of gcsfs.

An upload's parts are objects of their own below ``.sucrose-parts/``, sent at the same time, and then composed, 32 at
a time, by the store: no byte travels twice. What is left of uploads that never ended is found below that folder.
"""

from __future__ import annotations

import datetime
import errno
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, final
from urllib.parse import quote

from sucrose.storage.objects.backend import Backend, ListedKey, Page, PendingUpload
from sucrose.storage.objects.base import PartLimits
from sucrose.storage.objects.client_options import warn_of_ignored_options
from sucrose.storage.objects.event_loop import EventLoop, Progress
from sucrose.storage.objects.extras import import_client
from sucrose.storage.objects.names import HIDDEN_PARTS, split_url
from sucrose.storage.objects.object_storage import ObjectStorage
from sucrose.storage.objects.options import StorageOptions
from sucrose.storage.objects.part_body import PartBody

_COMPOSED_AT_ONCE = 32  # by the store's own limit
_READ_NBYTES = 1 << 20


class GcsStatusError(OSError):
    """The store has answered with an error.

    Attributes:
        status: of HTTP.
        headers: of the answer.
    """

    def __init__(self, status: int, said: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status
        self.headers = headers


@final
class GcsBackend(Backend):
    """Objects of one bucket.

    Args:
        bucket: its name.
        options: of the storage.
        gcsfs: the module.
    """

    limits = PartLimits(min_nbytes=1, max_nbytes=5 << 30, max_count=10_000)

    def __init__(self, bucket: str, options: StorageOptions, gcsfs: Any) -> None:
        arguments: dict[str, Any] = {"use_listings_cache": False, **options.client}
        if options.endpoint:
            arguments["endpoint_url"] = options.endpoint
        self._fs = gcsfs.GCSFileSystem(**arguments, skip_instance_cache=True)
        warn_of_ignored_options(options, type(self._fs))
        self._bucket = quote(bucket, safe="")
        self._connect_timeout_s = options.connect_timeout_s
        self._loop = EventLoop(
            self._fs.loop, stall_timeout_s=options.stall_timeout_s, answer_timeout_s=options.answer_timeout_s
        )

    def fetch(self, key: str, max_nbytes: int | None) -> bytes:
        data = bytearray()

        async def request(progress: Progress) -> None:
            async for some in self._media(key, {}, progress):
                data.extend(some)
                if max_nbytes is not None and len(data) > max_nbytes:
                    return

        self._loop.transfer(request)
        return bytes(data if max_nbytes is None else data[: max_nbytes + 1])

    def fetch_into(self, key: str, offset: int, into: memoryview) -> int:
        found = 0

        async def request(progress: Progress) -> None:
            nonlocal found
            found = 0
            headers = {"Range": f"bytes={offset}-{offset + into.nbytes - 1}"}
            async for data in self._media(key, headers, progress):
                some = data[: into.nbytes - found]
                into[found : found + len(some)] = some
                found += len(some)

        try:
            self._loop.transfer(request)
        except GcsStatusError as error:
            if error.status == 416:  # it begins behind the end
                return 0
            raise
        return found

    def size(self, key: str) -> int:
        return int(self._ask("GET", self._object(key), fields="size")["size"])

    def page(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        shape = {"delimiter": "/"} if by_folder else {}
        further = {"pageToken": token} if token else {}
        answer = self._ask("GET", f"storage/v1/b/{self._bucket}/o", prefix=prefix, **shape, **further)
        return Page(
            objects=[
                ListedKey(key=found["name"], nbytes=int(found["size"]), modified=_time(found.get("updated")))
                for found in answer.get("items", ())
            ],
            folders=answer.get("prefixes", ()),
            next_token=answer.get("nextPageToken"),
        )

    def put(self, key: str, data: memoryview, *, if_absent: bool = False) -> None:
        try:
            self._send(key, [data] if data.nbytes else [], {"ifGenerationMatch": "0"} if if_absent else {})
        except GcsStatusError as error:
            if not if_absent or error.status != 412:
                raise
            raise FileExistsError(errno.EEXIST, "there is an object of that name", key) from error

    def begin(self, key: str) -> str:
        return uuid.uuid4().hex

    def put_part(self, key: str, upload_id: str, number: int, data: Sequence[memoryview]) -> str:
        part = _part(key, upload_id, f"{number:05d}")
        self._send(part, data, {})
        return part

    def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> None:
        parts, made, level = list(tags), list(tags), 0
        while len(parts) > _COMPOSED_AT_ONCE:
            level += 1
            composed = []
            for begin in range(0, len(parts), _COMPOSED_AT_ONCE):
                composed.append(_part(key, upload_id, f"{level}-{begin:05d}"))
                self._compose(parts[begin : begin + _COMPOSED_AT_ONCE], composed[-1])
            parts = composed
            made.extend(composed)
        self._compose(parts, key)
        self.delete(made)

    def abort(self, key: str, upload_id: str) -> None:
        token: str | None = None
        while True:
            page = self.page(_part(key, upload_id, ""), token, by_folder=False)
            self.delete([found.key for found in page.objects])
            if page.next_token is None:
                return
            token = page.next_token

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        found: dict[tuple[str, str], datetime.datetime | None] = {}
        token: str | None = None
        while True:
            page = self.page(prefix, token, by_folder=False)
            for listed in page.objects:
                folder, is_part, rest = listed.key.rpartition(f"{HIDDEN_PARTS}/")
                if is_part and rest.count("/") == 2:
                    upload_id, name, _ = rest.split("/")
                    earlier = found.get((folder + name, upload_id), listed.modified)
                    found[folder + name, upload_id] = min(filter(None, (earlier, listed.modified)), default=None)
            if page.next_token is None:
                break
            token = page.next_token
        for (key, upload_id), begun in found.items():
            yield PendingUpload(key=key, upload_id=upload_id, begun=begun)

    def delete(self, keys: Sequence[str]) -> None:
        async def one(key: str) -> None:
            try:
                await self._request("DELETE", self._object(key))
            except GcsStatusError as error:
                if error.status != 404:
                    raise

        for key in keys:
            self._loop.ask(one(key))

    def close(self) -> None:
        session, self._fs._session = self._fs._session, None  # noqa: SLF001  # or the next request would use it
        if session is not None:
            self._loop.ask(session.close())

    def _object(self, key: str) -> str:
        return f"storage/v1/b/{self._bucket}/o/{quote(key, safe='')}"

    def _compose(self, parts: Sequence[str], key: str) -> None:
        self._loop.ask(
            self._request(
                "POST",
                f"{self._object(key)}/compose",
                json={"sourceObjects": [{"name": part} for part in parts], "destination": {}},
            )
        )

    def _send(self, key: str, data: Sequence[memoryview], condition: Mapping[str, str]) -> None:
        async def request(progress: Progress) -> None:
            body = PartBody(data, progress)
            await self._request(
                "POST",
                f"upload/storage/v1/b/{self._bucket}/o",
                data=body if len(body) else b"",
                headers={"Content-Length": str(len(body)), "Content-Type": "application/octet-stream"},
                params={"uploadType": "media", "name": key, **condition},
            )

        self._loop.transfer(request)

    def _ask(self, method: str, path: str, **params: str) -> Any:
        return json.loads(self._loop.ask(self._request(method, path, params=params)))

    async def _request(self, method: str, path: str, **arguments: Any) -> bytes:
        async with await self._open(method, path, **arguments) as response:
            await _check(response)
            data: bytes = await response.read()
            return data

    async def _media(self, key: str, headers: dict[str, str], progress: Progress) -> AsyncIterator[bytes]:
        async with await self._open("GET", self._object(key), params={"alt": "media"}, headers=headers) as response:
            await _check(response)
            if headers and response.status != 206 and not headers["Range"].startswith("bytes=0-"):
                raise OSError(errno.EPROTO, "the store does not answer requests for a part of an object with that part")
            async for data in response.content.iter_chunked(_READ_NBYTES):
                progress.advance(len(data))
                yield data

    async def _open(
        self, method: str, path: str, *, params: dict[str, str] | None = None, headers: dict[str, str] | None = None,
        **arguments: Any,
    ) -> Any:  # fmt: skip
        import aiohttp

        fs = self._fs
        await fs._set_session()  # noqa: SLF001  # its public calls retry by themselves and show no progress
        return await fs.session.request(
            method,
            f"{fs._location}/{path}",  # noqa: SLF001  # likewise
            params=fs._get_params(params or {}),  # noqa: SLF001  # likewise
            headers=fs._get_headers(headers),  # noqa: SLF001  # likewise
            timeout=aiohttp.ClientTimeout(sock_connect=self._connect_timeout_s),
            **arguments,
        )


def open_url(url: str, options: StorageOptions) -> ObjectStorage:
    """``gs://bucket/prefix``."""
    gcsfs = import_client("gcsfs", url, "gcs")
    base, bucket, prefix = split_url(url)
    return ObjectStorage(GcsBackend(bucket, options, gcsfs), base, prefix, options)


async def _check(response: Any) -> None:
    if response.status >= 400:
        text = (await response.content.read(2000)).decode(errors="replace")
        with suppress(ValueError, KeyError, TypeError):  # not as documented; what there is says something, too
            text = json.loads(text)["error"]["message"]
        raise GcsStatusError(response.status, text or response.reason or "", response.headers)


def _part(key: str, upload_id: str, which: str) -> str:
    folder, _, name = key.rpartition("/")
    return f"{folder}{'/' if folder else ''}{HIDDEN_PARTS}/{upload_id}/{name}/{which}"


def _time(text: str | None) -> datetime.datetime | None:
    if not text:
        return None
    # Python 3.10 reads neither a Z nor other than three or six digits after the point.
    seconds, _, fraction = text.rstrip("Z").partition(".")
    at = datetime.datetime.fromisoformat(f"{seconds}.{(fraction + '000000')[:6]}")
    return at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)

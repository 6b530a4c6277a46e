"""``s3://``: S3 and what speaks its protocol, through the client of s3fs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

from sucrose.storage.objects.backend import Backend, ListedKey, Page, PendingUpload
from sucrose.storage.objects.base import PartLimits
from sucrose.storage.objects.client_options import unknown_option
from sucrose.storage.objects.event_loop import EventLoop, Progress
from sucrose.storage.objects.extras import import_client
from sucrose.storage.objects.names import split_url
from sucrose.storage.objects.object_storage import ObjectStorage
from sucrose.storage.objects.options import StorageOptions
from sucrose.storage.objects.part_body import PartBody

_READ_NBYTES = 1 << 20
_CHECKSUMS = {
    "request_checksum_calculation": "AWS_REQUEST_CHECKSUM_CALCULATION",
    "response_checksum_validation": "AWS_RESPONSE_CHECKSUM_VALIDATION",
}


@final
class S3Backend(Backend):
    """Objects of one bucket.

    Args:
        bucket: its name.
        options: of the storage.
        s3fs: the module.
    """

    limits = PartLimits(min_nbytes=5 << 20, max_nbytes=5 << 30, max_count=10_000)

    def __init__(self, bucket: str, options: StorageOptions, s3fs: Any) -> None:
        self._bucket = bucket
        self._options = options
        self._fs = s3fs.S3FileSystem(**client_arguments(options, os.environ), skip_instance_cache=True)
        self._loop = EventLoop(
            self._fs.loop, stall_timeout_s=options.stall_timeout_s, answer_timeout_s=options.answer_timeout_s
        )

    def fetch(self, key: str, max_nbytes: int | None) -> bytes:
        data = bytearray()

        async def request(progress: Progress) -> None:
            response = await self._call("get_object", Key=key)
            await _receive(response, data.extend, None if max_nbytes is None else max_nbytes + 1, progress)

        self._loop.transfer(request)
        return bytes(data if max_nbytes is None else data[: max_nbytes + 1])

    def fetch_into(self, key: str, offset: int, into: memoryview) -> int:
        found = 0

        def fill(data: bytes) -> None:
            nonlocal found
            some = data[: into.nbytes - found]
            into[found : found + len(some)] = some
            found += len(some)

        async def request(progress: Progress) -> None:
            response = await self._call("get_object", Key=key, Range=f"bytes={offset}-{offset + into.nbytes - 1}")
            if offset and "ContentRange" not in response:
                response["Body"].close()
                raise OSError(errno.EPROTO, "the store does not answer requests for a part of an object with that part")
            await _receive(response, fill, into.nbytes, progress)

        try:
            self._loop.transfer(request)
        except Exception as error:
            if _code(error) in ("InvalidRange", "416"):  # it begins behind the end
                return 0
            raise
        return found

    def size(self, key: str) -> int:
        return int(self._ask("head_object", Key=key)["ContentLength"])

    def page(self, prefix: str, token: str | None, *, by_folder: bool) -> Page:
        further = {"ContinuationToken": token} if token else {}
        shape = {"Delimiter": "/"} if by_folder else {}
        answer = self._ask("list_objects_v2", Prefix=prefix, **further, **shape)
        return Page(
            objects=[
                ListedKey(key=found["Key"], nbytes=found["Size"], modified=found.get("LastModified"))
                for found in answer.get("Contents", ())
            ],
            folders=[found["Prefix"] for found in answer.get("CommonPrefixes", ())],
            next_token=answer.get("NextContinuationToken") if answer.get("IsTruncated") else None,
        )

    def put(self, key: str, data: memoryview, *, if_absent: bool = False) -> None:
        condition = {"IfNoneMatch": "*"} if if_absent else {}  # s3fs leaves it out where botocore is too old for it

        async def request(progress: Progress) -> None:
            body = PartBody([data], progress) if data.nbytes else b""
            await self._call("put_object", Key=key, Body=body, ContentLength=data.nbytes, **condition)

        try:
            self._loop.transfer(request)
        except Exception as error:
            code = _code(error)
            if if_absent and code in ("PreconditionFailed", "412"):
                raise FileExistsError(errno.EEXIST, "there is an object of that name", key) from error
            if not if_absent or code not in ("NotImplemented", "501"):
                raise
            self.put(key, data)

    def begin(self, key: str) -> str:
        return str(self._ask("create_multipart_upload", Key=key)["UploadId"])

    def put_part(self, key: str, upload_id: str, number: int, data: Sequence[memoryview]) -> str:
        async def request(progress: Progress) -> str:
            body = PartBody(data, progress)
            answer = await self._call(
                "upload_part",
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=body if len(body) else b"",
                ContentLength=len(body),
            )
            return str(answer["ETag"])

        return self._loop.transfer(request)

    def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> None:
        parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
        self._ask("complete_multipart_upload", Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts})

    def abort(self, key: str, upload_id: str) -> None:
        self._ask("abort_multipart_upload", Key=key, UploadId=upload_id)

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        further: dict[str, str] = {}
        while True:
            answer = self._ask("list_multipart_uploads", Prefix=prefix, **further)
            for found in answer.get("Uploads", ()):
                yield PendingUpload(key=found["Key"], upload_id=found["UploadId"], begun=found.get("Initiated"))
            place = (answer.get("NextKeyMarker"), answer.get("NextUploadIdMarker"))
            if not answer.get("IsTruncated") or not place[0] or place == tuple(further.values()):
                return
            further = {"KeyMarker": place[0], "UploadIdMarker": place[1] or ""}

    def delete(self, keys: Sequence[str]) -> None:
        objects = [{"Key": key} for key in keys]
        answer = self._ask("delete_objects", Delete={"Objects": objects, "Quiet": True})
        for error in answer.get("Errors", ()):
            if error.get("Code") not in ("NoSuchKey", "404"):
                from botocore.exceptions import ClientError  # type: ignore[import-untyped, unused-ignore]  # it has no types

                raise ClientError({"Error": error}, "DeleteObjects")

    def close(self) -> None:
        client, self._fs._s3 = self._fs._s3, None  # noqa: SLF001  # or the next request would open it again
        if client is not None:
            self._loop.ask(client.__aexit__(None, None, None))

    def _ask(self, method: str, **arguments: Any) -> Any:
        return self._loop.ask(self._call(method, **arguments))

    async def _call(self, method: str, **arguments: Any) -> Any:
        try:
            await self._fs.set_session()
        except TypeError as error:
            named = unknown_option(error, self._options, type(self._fs))
            if named is None:
                raise
            raise named from error
        client = await self._fs.get_s3(self._bucket)
        client.meta.events.register_last("before-call.s3", _no_expectation, unique_id="sucrose-no-expectation")
        call = getattr(client, method)
        # What users give for all requests, such as server-side encryption, as far as this one takes it.
        return await call(**self._fs._get_s3_method_kwargs(call, Bucket=self._bucket, **arguments))  # noqa: SLF001


def open_url(url: str, options: StorageOptions) -> ObjectStorage:
    """``s3://bucket/prefix``."""
    s3fs = import_client("s3fs", url, "s3")
    base, bucket, prefix = split_url(url)
    return ObjectStorage(S3Backend(bucket, options, s3fs), base, prefix, options)


def client_arguments(options: StorageOptions, environ: Mapping[str, str]) -> dict[str, Any]:
    """What s3fs is called with: ours, and what users have given, which goes before."""
    given = dict(options.client)
    given_config = dict(given.pop("config_kwargs", {}))
    config = {
        "connect_timeout": options.connect_timeout_s,
        "read_timeout": options.answer_timeout_s,
        "max_pool_connections": options.concurrency,
        "retries": {"total_max_attempts": 1},  # they are ours
        # Every chunk has a digest of ours, and TLS or the signature covers the way.
        **{name: "when_required" for name, variable in _CHECKSUMS.items() if variable not in environ},
        **given_config,
    }
    if _is_encrypted(options, environ):
        config["s3"] = {"payload_signing_enabled": False, **given_config.get("s3", {})}
    endpoint = {"endpoint_url": options.endpoint} if options.endpoint else {}
    return {"config_kwargs": config, "use_listings_cache": False, **endpoint, **given}


def _is_encrypted(options: StorageOptions, environ: Mapping[str, str]) -> bool:
    """Whether requests go through TLS. Without it a signature covers the bytes of parts, which takes time to make."""
    client = options.client
    endpoint = (
        client.get("endpoint_url")
        or (client.get("client_kwargs") or {}).get("endpoint_url")
        or options.endpoint
        or environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
    )
    return str(endpoint or "https://").startswith("https://") and client.get("use_ssl", True)


async def _receive(response: Any, take: Callable[[bytes], object], at_most: int | None, progress: Progress) -> None:
    """Hands the bytes of an answer on as they come, and closes it."""
    body, received = response["Body"], 0
    try:
        while at_most is None or received < at_most:
            data = await body.read(_READ_NBYTES)
            if not data:
                break
            take(data)
            received += len(data)
            progress.advance(len(data))
        expected = response.get("ContentLength")
        if expected is not None and received < expected and (at_most is None or received < at_most):
            raise ConnectionResetError(
                errno.ECONNRESET, f"the connection was lost after {received} of {expected} bytes"
            )
    finally:
        body.close()


def _no_expectation(params: dict[str, Any], **_: object) -> None:
    """Not every store sends the `100 Continue` that botocore asks for, and aiohttp would wait for it for ever."""
    params["headers"].pop("Expect", None)


def _code(error: Exception) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code")) if isinstance(response, dict) else ""

"""F30: stores that answer with errors, or late, or not at all, and connections that are lost."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from faulty_proxy import FaultyProxy
from s3_server import BUCKET, S3Server

from sucrose.errors import AccessDeniedError, StorageError, StorageTimeoutError
from sucrose.storage.objects import Storage, open_storage

PART = 5 << 20
Open = Callable[..., Storage]


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(s3_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def open_through(proxy: FaultyProxy, s3_server: S3Server) -> Iterator[Open]:
    """A function that opens an empty storage behind the proxy."""
    opened: list[Storage] = []

    def through(**options: Any) -> Storage:
        quick = {"backoff_s": 0.01, "stall_timeout_s": 30.0, **options, "endpoint": proxy.endpoint}
        opened.append(open_storage(f"s3://{BUCKET}/{uuid.uuid4().hex}", s3_server.storage_options(**quick)))
        return opened[-1]

    yield through
    for storage in opened:
        storage.close()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_a_request_that_the_store_cannot_serve_now_is_made_again(
    proxy: FaultyProxy, open_through: Open, method: str, status: int
) -> None:
    storage = open_through()
    fault = proxy.inject(method, "/a", status=status, times=3)
    storage.put("a", b"the bytes")
    assert storage.read("a") == b"the bytes"
    assert storage.size("a") == 9
    assert fault.hits == 3


def test_a_slow_answer_is_waited_for_and_the_request_made_once(proxy: FaultyProxy, open_through: Open) -> None:
    storage = open_through(stall_timeout_s=30.0, answer_timeout_s=30.0)
    faults = [proxy.inject(method, "/a", delay_s=0.5) for method in ("PUT", "GET", "HEAD")]
    storage.put("a", b"the bytes")
    assert storage.read("a") == b"the bytes"
    assert storage.size("a") == 9
    assert [(fault.hits, proxy.count(fault.method, "/a")) for fault in faults] == [(1, 1)] * 3


@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_an_answer_that_comes_later_than_the_limit_is_asked_for_again(
    proxy: FaultyProxy, open_through: Open, method: str
) -> None:
    storage = open_through(stall_timeout_s=0.3, answer_timeout_s=0.3)
    fault = proxy.inject(method, "/a", delay_s=2.0)
    storage.put("a", b"the bytes")
    assert storage.read("a") == b"the bytes"
    assert fault.hits == 1
    assert proxy.count(method, "/a") > 1


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_request_that_the_store_refuses_is_not_made_again(
    proxy: FaultyProxy, open_through: Open, status: int
) -> None:
    storage = open_through()
    fault = proxy.inject("GET", "/a", status=status, times=9)
    with pytest.raises(StorageError) as raised:
        storage.read("a")
    assert fault.hits == 1
    assert isinstance(raised.value, AccessDeniedError) == (status == 403)
    assert isinstance(raised.value, FileNotFoundError) == (status == 404)


def test_a_store_that_stays_overloaded_is_an_error_that_says_what_to_do(proxy: FaultyProxy, open_through: Open) -> None:
    storage = open_through(attempts=3)
    fault = proxy.inject("PUT", "/a", status=503, times=99)
    with pytest.raises(StorageError, match=r"3 times.*concurrency") as raised:
        storage.put("a", b"x")
    assert fault.hits == 3
    assert raised.value.errno == errno.EBUSY
    assert raised.value.path == f"{storage.url}/a"


@pytest.mark.parametrize("after", [0, 100_000])
@pytest.mark.parametrize("stall", [False, True], ids=["lost", "stalled"])
def test_a_part_whose_connection_fails_in_mid_upload_is_sent_again(
    proxy: FaultyProxy, open_through: Open, after: int, stall: bool
) -> None:
    storage = open_through(stall_timeout_s=2.0 if stall else 30.0)
    parts = [bytes([number]) * PART for number in range(4)]
    fault = proxy.inject("PUT", "partNumber=2", upload_nbytes=after, stall=stall, times=1 if stall else 2)
    with storage.upload("a") as upload, ThreadPoolExecutor(4) as threads:
        list(threads.map(upload.write_part, range(1, 5), parts))
        upload.complete()
    assert fault.hits == fault.times
    assert storage.read("a") == b"".join(parts)
    assert list(storage.abandoned_uploads(older_than_s=0)) == []


@pytest.mark.parametrize("stall", [False, True], ids=["lost", "stalled"])
def test_a_range_whose_connection_fails_in_mid_download_is_read_again(
    proxy: FaultyProxy, open_through: Open, stall: bool
) -> None:
    storage = open_through(stall_timeout_s=2.0 if stall else 30.0)
    data = bytes(range(256)) * 4096
    storage.put("a", data)
    fault = proxy.inject("GET", "/a", download_nbytes=300_000, stall=stall, times=1 if stall else 3)
    assert storage.read_part("a", 1000, 700_000) == data[1000:701_000]
    proxy.inject("GET", "/a", download_nbytes=300_000, stall=stall)
    assert storage.read("a") == data
    assert fault.hits == fault.times


def test_a_transfer_that_stalls_every_time_is_a_timeout_error(proxy: FaultyProxy, open_through: Open) -> None:
    storage = open_through(stall_timeout_s=0.5, attempts=2)
    storage.put("a", b"x")
    proxy.inject("GET", "/a", download_nbytes=0, stall=True, times=2)
    with pytest.raises(StorageTimeoutError, match=r"no byte has moved|no answer") as raised:
        storage.read("a")
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.errno == errno.ETIMEDOUT


def test_a_completion_whose_answer_is_lost_counts(proxy: FaultyProxy, open_through: Open) -> None:
    storage = open_through()
    with storage.upload("a") as upload:
        upload.write_part(1, b"the bytes")
        fault = proxy.inject("POST", "uploadId=", lose_answer=True)
        upload.complete()
    assert fault.hits == 1
    assert storage.read("a") == b"the bytes"


def test_an_upload_that_fails_for_good_leaves_nothing_in_the_store(proxy: FaultyProxy, open_through: Open) -> None:
    storage = open_through(attempts=2)
    proxy.inject("PUT", "partNumber=2", status=500, times=99)
    with storage.upload("a") as upload:
        upload.write_part(1, bytes(PART))
        with pytest.raises(StorageError):
            upload.write_part(2, b"x")
    assert not storage.exists("a")
    assert list(storage.abandoned_uploads(older_than_s=0)) == []


def test_an_abort_that_fails_is_a_warning_and_the_upload_is_found_later(
    proxy: FaultyProxy, open_through: Open, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_through(attempts=1)
    fault = proxy.inject("DELETE", "uploadId=", status=503)
    with storage.upload("a") as upload:
        upload.write_part(1, b"x")
    assert fault.hits == 1
    assert "abandoned" in caplog.text
    assert [found.name for found in storage.abandoned_uploads(older_than_s=0)] == ["a"]
    assert storage.abort_abandoned(older_than_s=0) == 1


def test_a_page_of_a_listing_that_fails_is_asked_for_again(proxy: FaultyProxy, open_through: Open) -> None:
    storage = open_through()
    storage.put("a", b"x")
    fault = proxy.inject("GET", "list-type=2", lose_answer=True, times=2)
    assert [found.name for found in storage.list()] == ["a"]
    assert fault.hits == 2


def test_a_store_that_is_not_there_is_an_error_that_names_its_endpoint(s3_server: S3Server) -> None:
    from benchmarks.object_server import free_ports

    endpoint = f"http://127.0.0.1:{free_ports(1)[0]}"
    options = s3_server.storage_options(endpoint=endpoint, attempts=2, backoff_s=0.01)
    with open_storage("s3://bucket/run", options) as storage, pytest.raises(StorageError, match=endpoint):
        storage.read("a")

"""``gs://`` on a server of the tests' own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from faulty_proxy import FaultyProxy
from gcs_server import BUCKET, GcsServer

from sucrose.storage.objects import Storage, open_storage
from sucrose.testing.storage import StorageConformance


class TestGcs(StorageConformance):
    puts_exclusively = False  # the server of the tests looks first and then writes; Google's does both at once

    @pytest.fixture
    def storage(self, gcs_server: GcsServer) -> Iterator[Storage]:
        with open_storage(f"gs://{BUCKET}/{uuid.uuid4().hex}", gcs_server.storage_options()) as storage:
            yield storage


def test_an_upload_of_more_parts_than_are_composed_at_once_is_one_file(gcs_server: GcsServer) -> None:
    parts = [f"part {number} ".encode() for number in range(1100)]
    with open_storage(f"gs://{BUCKET}/{uuid.uuid4().hex}", gcs_server.storage_options()) as storage:
        with storage.upload("a") as upload:
            for number, part in enumerate(parts, 1):
                upload.write_part(number, part)
            upload.complete()
        assert storage.read("a") == b"".join(parts)
        assert list(storage.abandoned_uploads(older_than_s=0)) == []


def test_the_variable_of_the_vendors_client_is_honoured(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.endpoint)
    with open_storage(f"gcs://{BUCKET}/{uuid.uuid4().hex}", {"token": "anon"}) as storage:
        storage.put("a", b"x")
        assert storage.read("a") == b"x"


def test_requests_that_fail_are_made_again(gcs_server: GcsServer) -> None:
    proxy = FaultyProxy(gcs_server.port)
    options = gcs_server.storage_options(endpoint=proxy.endpoint, backoff_s=0.01)
    faults = [
        proxy.inject("POST", "00002", upload_nbytes=10_000, times=2),
        proxy.inject("POST", "00003", status=503),
        proxy.inject("POST", "compose", status=500),
        proxy.inject("GET", "alt=media", download_nbytes=50_000),
    ]
    parts = [bytes([number]) * 100_000 for number in range(4)]
    try:
        with open_storage(f"gs://{BUCKET}/{uuid.uuid4().hex}", options) as storage:
            with storage.upload("a") as upload:
                for number, part in enumerate(parts, 1):
                    upload.write_part(number, part)
                upload.complete()
            assert storage.read("a") == b"".join(parts)
    finally:
        proxy.close()
    assert [fault.hits for fault in faults] == [2, 1, 1, 1]

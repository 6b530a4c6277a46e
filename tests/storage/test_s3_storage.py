"""``s3://`` on a real server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server

from sucrose.errors import AccessDeniedError, ForkError, ObjectNotFoundError
from sucrose.storage.objects import Storage, StorageOptions, open_storage
from sucrose.storage.objects.s3 import client_arguments
from sucrose.testing.storage import StorageConformance


class TestS3(StorageConformance):
    @pytest.fixture
    def storage(self, s3_server: S3Server) -> Iterator[Storage]:
        with open_storage(f"s3://{BUCKET}/{uuid.uuid4().hex}", s3_server.storage_options()) as storage:
            yield storage


def test_the_variables_of_the_vendors_client_are_honoured(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with open_storage(f"s3://{BUCKET}/{uuid.uuid4().hex}") as storage:
        storage.put("a", b"x")
        assert storage.read("a") == b"x"


def test_wrong_credentials_are_a_permission_error_at_once_and_are_not_shown(s3_server: S3Server) -> None:
    options = s3_server.storage_options(secret="a wrong secret", attempts=50, backoff_s=60.0, max_backoff_s=60.0)
    with open_storage(f"s3://{BUCKET}/run", options) as storage, pytest.raises(AccessDeniedError) as raised:
        storage.put("a", b"x")
    assert isinstance(raised.value, PermissionError)
    assert raised.value.path == f"s3://{BUCKET}/run/a"
    assert "a wrong secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "environ", "is_signed"),
    [
        ({}, {}, False),
        ({"endpoint": "https://store.example"}, {"AWS_ENDPOINT_URL": "http://other.example"}, False),
        ({"endpoint": "http://store.example"}, {}, True),
        ({"client_kwargs": {"endpoint_url": "http://store.example"}}, {}, True),
        ({}, {"AWS_ENDPOINT_URL": "http://store.example"}, True),
        ({"use_ssl": False}, {}, True),
    ],
    ids=["vendor", "https", "http", "http of the client", "http of the environment", "without TLS"],
)
def test_the_bytes_of_parts_are_signed_only_where_nothing_else_covers_them(
    options: dict[str, Any], environ: dict[str, str], is_signed: bool
) -> None:
    config = client_arguments(StorageOptions.parse(options), environ)["config_kwargs"]
    assert config.get("s3", {}).get("payload_signing_enabled", True) is is_signed


def test_parts_whose_bytes_are_not_signed_arrive(s3_server: S3Server) -> None:
    unsigned = {"s3": {"payload_signing_enabled": False}}
    options = s3_server.storage_options(config_kwargs=unsigned)
    with open_storage(f"s3://{BUCKET}/{uuid.uuid4().hex}", options) as storage, storage.upload("a") as upload:
        upload.write_part(1, b"x" * (5 << 20))
        upload.write_part(2, b"end")
        upload.complete()
        assert storage.read_part("a", (5 << 20) - 1, 4) == b"xend"


def test_a_bucket_that_is_not_there_is_a_file_not_found_error(s3_server: S3Server) -> None:
    with open_storage("s3://no-such-bucket/run", s3_server.storage_options()) as storage:
        with pytest.raises(ObjectNotFoundError, match="no-such-bucket"):
            storage.upload("a")
        with pytest.raises(ObjectNotFoundError):
            list(storage.list())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_is_told_to_open_the_storage_again(s3_server: S3Server) -> None:
    with open_storage(f"s3://{BUCKET}/{uuid.uuid4().hex}", s3_server.storage_options()) as storage:
        storage.put("a", b"x")
        child = os.fork()
        if child == 0:
            try:
                storage.read("a")
            except ForkError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert storage.read("a") == b"x"

"""``s3://`` on a real server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest
from s3_server import ACCESS_KEY, BUCKET, SECRET_KEY, S3Server

from sucrose.errors import AccessDeniedError, ForkError, ObjectNotFoundError
from sucrose.storage.objects import Storage, open_storage
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

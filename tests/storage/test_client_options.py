"""Storage options that neither this package nor the client of the store knows."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from sucrose.errors import ConfigError, StorageError
from sucrose.storage.objects import open_storage

NOBODY = "http://127.0.0.1:9"  # whatever is sent would fail with another error


@pytest.mark.parametrize(
    ("given", "name", "said"),
    [
        ({"conncurrency": 4}, "conncurrency", "'concurrency'"),
        ({"end_point_url": NOBODY}, "end_point_url", "'endpoint_url'"),
        ({"account_name": "me"}, "account_name", "it knows anon, "),
        ({"client_kwargs": {"regionname": "eu"}}, "regionname", "client_kwargs has 'regionname'"),
        ({"config_kwargs": {"signature": "s3v4"}}, "signature", "config_kwargs has 'signature'"),
    ],
    ids=["of ours", "of the client", "like none", "of a client's client", "of a configuration"],
)
def test_an_option_that_nobody_takes_is_named_before_anything_is_sent(
    given: dict[str, Any], name: str, said: str
) -> None:
    pytest.importorskip("s3fs")
    options = {"endpoint": NOBODY, "key": "key", "secret": "a secret of mine", **given}
    with open_storage("s3://bucket/run", options) as storage, pytest.raises(ConfigError) as raised:
        storage.read("a")
    assert raised.value.key == name
    assert repr(name) in str(raised.value)
    assert said in str(raised.value)
    assert "a secret of mine" not in str(raised.value)


def test_an_option_that_the_client_hands_on_is_no_error() -> None:
    pytest.importorskip("s3fs")
    given = {"endpoint": NOBODY, "key": "key", "secret": "secret", "session_vars": {}, "attempts": 1}
    with open_storage("s3://bucket/run", given) as storage, pytest.raises(StorageError, match=r"127\.0\.0\.1:9"):
        storage.read("a")


def test_a_client_that_ignores_what_it_does_not_know_leaves_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("adlfs")
    given = {"account_name": "account", "anon": True, "conncurrency": 4, "exclude_cli_credential": True}
    with caplog.at_level(logging.WARNING, "sucrose"), open_storage("az://container/run", given):
        pass
    [record] = caplog.records
    assert "'conncurrency'" in record.getMessage()
    assert "'concurrency'" in record.getMessage()


def test_an_option_that_a_file_system_of_fsspec_refuses_is_named() -> None:
    fsspec = pytest.importorskip("fsspec")

    class Strict(fsspec.AbstractFileSystem):  # type: ignore[misc]  # it has no types
        protocol = "strict"

        def __init__(self, depth: int = 1) -> None:
            super().__init__()
            self.depth = depth

    fsspec.register_implementation("strict", Strict, clobber=True)
    with pytest.raises(ConfigError, match="'depth'") as raised:
        open_storage("strict://a/b", {"dept": 2})
    assert raised.value.key == "dept"
    with open_storage("strict://a/b", {"depth": 2}) as storage:
        assert storage.url == "strict://a/b"

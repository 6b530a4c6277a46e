"""Which storage serves a URL, and what it is told."""

from __future__ import annotations

import errno
import importlib.metadata
import subprocess
import sys
from typing import Any

import pytest

from sucrose.errors import ConfigError, CorruptionError, MissingExtraError, ReadOnlyStorageError
from sucrose.storage.objects import Storage, StorageOptions, open_storage, register_storage
from sucrose.storage.objects.object_upload import choose_part_nbytes
from sucrose.storage.objects.s3 import S3Backend


def test_importing_the_storages_imports_no_client() -> None:
    program = (
        "import sys; from sucrose.storage.objects import open_storage; open_storage('memory://a/b').put('c', b'');"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    clients = {"fsspec", "s3fs", "aiobotocore", "gcsfs", "adlfs", "huggingface_hub", "aiohttp", "torch"}
    assert clients.isdisjoint(result.stdout.split())


@pytest.mark.parametrize(
    ("url", "client", "extra"),
    [
        ("s3://bucket/run", "s3fs", "s3"),
        ("gs://bucket/run", "gcsfs", "gcs"),
        ("az://container/run", "adlfs", "azure"),
        ("hf://user/model", "huggingface_hub", "hf"),
    ],
)
def test_a_missing_extra_is_named(url: str, client: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, client, None)
    with pytest.raises(MissingExtraError) as raised:
        open_storage(url)
    assert isinstance(raised.value, ImportError)
    assert raised.value.extra == extra
    assert f"pip install 'torch-sucrose[{extra}]'" in str(raised.value)


def test_a_scheme_that_nobody_knows_is_an_error_that_names_it() -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(ConfigError, match="nobody-knows"):
        open_storage("nobody-knows://a/b")


@pytest.mark.parametrize("url", ["run/step_1", "/run", "://a", "s3://", "s3:///run", "s3://bucket/../other"])
def test_what_is_no_url_of_a_storage_is_refused(url: str) -> None:
    pytest.importorskip("s3fs")
    with pytest.raises((ConfigError, CorruptionError)):
        open_storage(url)


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        open_storage("s3://user:secret@bucket/run")
    assert "secret" not in str(raised.value)


def test_a_registered_scheme_gets_the_url_and_the_options() -> None:
    seen: list[Any] = []

    def opener(url: str, options: StorageOptions) -> Storage:
        seen.append((url, options.concurrency, options.client))
        return open_storage("memory://registered")

    register_storage("tests-own", opener)
    open_storage("tests-own://place/run/", {"concurrency": 3, "key": "k"})
    assert seen == [("tests-own://place/run", 3, {"key": "k"})]


def test_another_package_adds_a_scheme_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        importlib.metadata.EntryPoint("plugged", "sucrose.storage.objects.memory:open_url", "sucrose.storage"),
        importlib.metadata.EntryPoint("broken", "no_such_module_at_all:open_url", "sucrose.storage"),
    ]
    monkeypatch.setattr("sucrose.storage.objects.registry.entry_points", lambda group: points)
    with open_storage("plugged://a/b") as storage:
        storage.put("c", b"x")
        assert storage.url == "plugged://a/b"
        assert open_storage("memory://a/b").read("c") == b"x"
    with pytest.raises(ConfigError, match="no_such_module_at_all"):
        open_storage("broken://a/b")


@pytest.mark.parametrize(
    "option",
    [{"concurrency": 0}, {"concurrency": 1.5}, {"attempts": "3"}, {"stall_timeout_s": -1}, {"endpoint": "host:80"}],
    ids=lambda option: next(iter(option)),
)
def test_an_option_with_a_bad_value_is_named(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        open_storage("memory://a", option)
    assert raised.value.key == next(iter(option))


def test_credentials_are_not_in_the_text_of_options() -> None:
    options = StorageOptions.parse({"secret": "do not show", "client": {"token": "neither"}})
    assert options.client == {"secret": "do not show", "token": "neither"}
    assert "do not show" not in repr(options)
    assert "neither" not in repr(options)


@pytest.mark.parametrize(
    ("nbytes", "expected"),
    [(None, 16 << 20), (1, 16 << 20), (160_000 << 20, 16 << 20), (320_000 << 20, 32 << 20), (5 << 40, 549755814)],
)
def test_parts_grow_where_a_file_would_need_too_many(nbytes: int | None, expected: int) -> None:
    assert choose_part_nbytes(nbytes, StorageOptions(), S3Backend.limits) == expected


def test_parts_are_not_smaller_than_the_store_takes_them() -> None:
    assert choose_part_nbytes(None, StorageOptions(part_nbytes=1), S3Backend.limits) == 5 << 20
    with pytest.raises(ValueError, match="more than"):
        choose_part_nbytes(1 << 60, StorageOptions(), S3Backend.limits)


def test_the_hub_is_for_reading() -> None:
    pytest.importorskip("huggingface_hub")
    with open_storage("hf://user/model/run") as storage:
        assert storage.is_read_only
        for write in (lambda: storage.put("a", b""), lambda: storage.upload("a"), lambda: storage.delete(["a"])):
            with pytest.raises(ReadOnlyStorageError) as raised:
                write()
            assert raised.value.errno == errno.EROFS

"""Places that are no URLs, or that nobody should save to: told before anything is sent or written."""

from __future__ import annotations

from pathlib import Path

import pytest

import sucrose
from sucrose import Snapshot, StateDict
from sucrose.errors import ConfigError, StorageError
from sucrose.storage import location_of
from sucrose.storage.objects import open_storage


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "abfss", "hf", "memory"])
def test_a_url_that_pathlib_has_broken_is_no_local_folder(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = Path(f"{scheme}://bucket/run")
    for use in (
        lambda: Snapshot.take(broken, {"state": StateDict(step=1)}),
        lambda: Snapshot.async_take(broken, {"state": StateDict(step=1)}),
        lambda: location_of(broken),
    ):
        with pytest.raises(ConfigError, match="pathlib") as raised:
            use()
        assert raised.value.path == f"{scheme}:/bucket/run"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["s3://bucket/run", Path("s3://bucket/run")], ids=["URL", "broken URL"])
def test_what_is_for_file_systems_only_says_so_of_a_url(
    url: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)  # what it would be taken for is there
    for use in (
        lambda: sucrose.save({}, url),
        lambda: sucrose.load(url),
        lambda: sucrose.scenario(url, "base"),
    ):
        with pytest.raises(ConfigError):
            use()
    assert list((tmp_path / "s3:" / "bucket").iterdir()) == []


def test_other_paths_with_colons_are_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert location_of("12:30/run") == str(tmp_path / "12:30/run")
    assert location_of("s3:run") == str(tmp_path / "s3:run")


@pytest.mark.parametrize("path", ["a//b", "../b", "a/./b", "x" * 1025], ids=["empty", "above", "dot", "long"])
def test_a_path_that_no_object_can_have_is_the_callers_mistake(path: str) -> None:
    with pytest.raises(ConfigError, match="names no place"):
        Snapshot.take(f"memory://bucket/{path}", {"state": StateDict(step=1)})


def test_a_url_without_a_bucket_is_shown_as_it_should_be() -> None:
    with pytest.raises(ConfigError, match="expected memory://BUCKET/PATH"):
        open_storage("memory://")


@pytest.mark.parametrize("scheme", ["ftp", "s3", "abfs", "hf"])
def test_a_password_in_a_url_is_refused_and_not_repeated(scheme: str) -> None:
    url = f"{scheme}://user:opensesame@127.0.0.1:1/run"
    for use in (open_storage, lambda url: Snapshot(url).verify()):
        with pytest.raises(ConfigError, match="storage_options") as raised:
            use(url)
        assert "opensesame" not in repr(raised.value)


def test_a_take_does_not_drop_the_password_of_a_url_in_silence() -> None:
    with pytest.raises(ConfigError, match="storage_options"):
        Snapshot.take("ftp://user:opensesame@127.0.0.1:1/run", {"state": StateDict(step=1)})


def test_a_server_that_cannot_be_reached_is_an_error_of_the_storage() -> None:
    with pytest.raises(StorageError) as raised:
        Snapshot.take("ftp://127.0.0.1:1/run", {"state": StateDict(step=1)})
    assert raised.value.path == "ftp://127.0.0.1:1/run"

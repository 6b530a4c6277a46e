"""Snapshots in object stores whose names lead out of them: nothing else in the bucket is read."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from forged_snapshots import forge
from stored_folders import new_bucket, put_folder

from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError, IncompleteSnapshotError, SucroseError
from sucrose.storage.objects import open_storage
from sucrose.storage.objects.memory import MemoryBackend

DATA = "data/0_0.safetensors"
WEIGHT = torch.arange(200_000.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys whose objects were read or looked at."""
    keys: list[str] = []
    for method in ("fetch", "fetch_into", "size"):
        real = getattr(MemoryBackend, method)

        def ask(backend: MemoryBackend, key: str, *arguments: Any, real: Any = real) -> Any:
            keys.append(key)
            return real(backend, key, *arguments)

        monkeypatch.setattr(MemoryBackend, method, ask)
    return keys


def is_refused(folder: Path, asked: list[str], *, name: str = "s") -> None:
    """Of the snapshot in a folder, as it lies in a bucket beside something private."""
    bucket = new_bucket()
    with open_storage(f"{bucket}/runs") as storage:
        put_folder(storage, folder)
        storage.put("secret", (folder / "base" / DATA).read_bytes())
        storage.put("private/.snapshot_metadata", (folder / "base" / ".snapshot_metadata").read_bytes())
        storage.put(f"private/{DATA}", (folder / "base" / DATA).read_bytes())
    asked.clear()
    for verify in (True, False):
        with pytest.raises((CorruptionError, IncompleteSnapshotError)):
            Snapshot(f"{bucket}/runs/{name}").read_object("0/state/weight", verify=verify)
    with suppress(SucroseError):
        assert not Snapshot(f"{bucket}/runs/{name}").verify()
    assert all(key.startswith(("runs/s/", "runs/base/")) and ".." not in key.split("/") for key in asked)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a snapshot `s` that finds `weight` in `base` beside it."""
    Snapshot.take(tmp_path / "base", {"state": StateDict(weight=WEIGHT)})
    Snapshot.take(tmp_path / "s", {"state": StateDict(weight=WEIGHT, other=torch.zeros(3))}, base=tmp_path / "base")
    return tmp_path


def renamed(folder: Path, base: str, file: str) -> None:
    """Says that the base, and the file in it, have other names."""

    def change(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        index["bases"] = {base: index["bases"]["../base"]}
        for name in [name for name in index["files"] if name.startswith("../base/")]:
            index["files"][f"{base}/{file}"] = index["files"].pop(name)
        for entry in metadata["manifest"].values():
            for tensor in [entry, *(part["tensor"] for part in entry.get("chunks", []))]:
                if tensor.get("location", "").startswith("../base/"):
                    tensor["location"] = f"{base}/{file}"

    forge(folder / "s", change)


@pytest.mark.parametrize(
    "base",
    ["/runs/base", "..", "../..", ".", "data", "../base/..", "./../base", "..//base", "../base\0", "", "../../../x"],
    ids=str.__repr__,
)
def test_a_base_that_is_no_other_folder_of_the_bucket_is_refused(folder: Path, asked: list[str], base: str) -> None:
    renamed(folder, base, DATA)
    is_refused(folder, asked)


@pytest.mark.parametrize(
    "file",
    ["../secret", "data/../../secret", "/runs/secret", ".", "data/..", "a\0b", "data//0_0.safetensors"],
    ids=str.__repr__,
)
def test_an_object_that_is_not_below_its_base_is_refused(folder: Path, asked: list[str], file: str) -> None:
    renamed(folder, "../base", file)
    is_refused(folder, asked)


@pytest.mark.parametrize("location", ["../secret", "../base/notes", "data/../../secret", "/runs/secret"])
def test_a_location_that_the_index_does_not_list_is_not_read(folder: Path, asked: list[str], location: str) -> None:
    def change(metadata: dict[str, Any], _: dict[str, Any]) -> None:
        for entry in metadata["manifest"].values():
            for tensor in [entry, *(part["tensor"] for part in entry.get("chunks", []))]:
                if tensor.get("location", "").startswith("../base/"):
                    tensor["location"] = location

    forge(folder / "s", change)
    (folder / "base" / "notes").write_bytes((folder / "base" / DATA).read_bytes())
    is_refused(folder, asked)


def test_an_index_that_lists_what_lies_outside_of_any_base_gets_nothing(folder: Path, asked: list[str]) -> None:
    def change(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        for name in [name for name in index["files"] if name.startswith("../base/")]:
            index["files"]["../secret"] = index["files"].pop(name)
        for entry in metadata["manifest"].values():
            for tensor in [entry, *(part["tensor"] for part in entry.get("chunks", []))]:
                if tensor.get("location", "").startswith("../base/"):
                    tensor["location"] = "../secret"

    forge(folder / "s", change)
    is_refused(folder, asked)


def test_an_object_that_was_replaced_by_a_huge_one_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Snapshot.take(tmp_path / "s", {"state": StateDict(value={1, 2})})
    url = f"memory://{uuid.uuid4().hex}/s"
    read: list[int | None] = []
    fetch = MemoryBackend.fetch

    def watched(backend: MemoryBackend, key: str, max_nbytes: int | None) -> bytes:
        read.append(max_nbytes)
        return fetch(backend, key, max_nbytes)

    with open_storage(url) as storage:
        put_folder(storage, tmp_path / "s")
        storage.put("objects/0/state/value", bytes(10 << 20))
    monkeypatch.setattr(MemoryBackend, "fetch", watched)
    with pytest.raises(CorruptionError):
        Snapshot(url).read_object("0/state/value")
    assert None not in read

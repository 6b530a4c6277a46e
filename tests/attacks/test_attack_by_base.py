"""Incremental snapshots whose base is not what it should be, or leads elsewhere."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from forged_snapshots import digests_of, forge, nothing_happens

from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError, IncompleteSnapshotError, SucroseError

DATA = "data/0_0.safetensors"
WEIGHT = torch.arange(200_000.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A snapshot that finds `weight` in the one beside it."""
    Snapshot.take(tmp_path / "base", {"state": StateDict(weight=WEIGHT, other=torch.ones(3))})
    Snapshot.take(tmp_path / "s", {"state": StateDict(weight=WEIGHT, other=torch.zeros(3))}, base=tmp_path / "base")
    assert any(name.startswith("../base/") for name in index_files(tmp_path / "s"))
    return tmp_path / "s"


def index_files(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / ".snapshot_index").read_bytes().partition(b"\n")[0])["files"]
    return found


def refused(folder: Path) -> None:
    for verify in (True, False):
        with nothing_happens(folder.parent), pytest.raises((CorruptionError, IncompleteSnapshotError)):
            Snapshot(folder).read_object("0/state/weight", verify=verify)
    with suppress(SucroseError):
        assert not Snapshot(folder).verify()


def rename(folder: Path, base: str, file: str = DATA) -> None:
    """Says that the base, and the file in it, have other names; the rest stays as it is."""

    def change(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        index["bases"] = {base: index["bases"]["../base"]}
        for name in [name for name in index["files"] if name.startswith("../base/")]:
            index["files"][f"{base}/{file}"] = index["files"].pop(name)
        for entry in metadata["manifest"].values():
            for tensor in [entry, *(part["tensor"] for part in entry.get("chunks", []))]:
                if tensor.get("location", "").startswith("../base/"):
                    tensor["location"] = f"{base}/{file}"

    forge(folder, change)


@pytest.mark.parametrize(
    "base",
    [
        "/tmp",
        "..",
        "../..",
        ".",
        "data",
        "../base/../..",
        "../base/..",
        "./../base",
        "..//base",
        "../base\0",
        "",
        "../",
    ],
    ids=str.__repr__,
)
def test_a_base_that_is_no_other_snapshot_by_its_name_is_refused(folder: Path, base: str) -> None:
    rename(folder, base)
    refused(folder)


@pytest.mark.parametrize(
    "file", ["../secret", "data/../../secret", "/etc/passwd", ".", "data/..", "a\0b"], ids=str.__repr__
)
def test_a_file_that_leads_out_of_its_base_is_refused(folder: Path, file: str) -> None:
    shutil.copy(folder.parent / "base" / DATA, folder.parent / "secret")
    rename(folder, "../base", file)
    refused(folder)


def test_a_folder_that_is_no_snapshot_is_no_base(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "private" / "data").mkdir(parents=True)
    shutil.copy(tmp_path / "base" / DATA, tmp_path / "private" / DATA)
    rename(folder, "../private")
    refused(folder)


def test_a_file_of_the_base_that_the_index_does_not_list_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "base" / "notes").write_bytes((tmp_path / "base" / DATA).read_bytes())

    def change(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        for entry in metadata["manifest"].values():
            for tensor in [entry, *(part["tensor"] for part in entry.get("chunks", []))]:
                if tensor.get("location", "").startswith("../base/"):
                    tensor["location"] = "../base/notes"

    forge(folder, change)
    refused(folder)


@pytest.mark.parametrize("place", ["data", DATA])
def test_a_link_inside_of_the_base_is_not_followed(folder: Path, tmp_path: Path, place: str) -> None:
    shutil.move(tmp_path / "base" / place, tmp_path / "moved")
    (tmp_path / "base" / place).symlink_to(tmp_path / "moved")
    refused(folder)


def test_another_base_in_the_place_of_the_one_that_was_meant_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "base")
    Snapshot.take(tmp_path / "base", {"state": StateDict(weight=WEIGHT + 1, other=torch.ones(3))})
    with pytest.raises((CorruptionError, IncompleteSnapshotError)):
        Snapshot(folder).read_object("0/state/weight")
    assert not Snapshot(folder).verify()


def test_a_base_that_was_changed_together_with_its_own_records_is_refused(folder: Path, tmp_path: Path) -> None:
    content = bytearray((tmp_path / "base" / DATA).read_bytes())
    content[5000] ^= 1
    (tmp_path / "base" / DATA).write_bytes(content)
    forge(tmp_path / "base", lambda metadata, index: metadata["manifest"].update({"0/extra": {"type": "list"}}))
    assert Snapshot(tmp_path / "base").verify(), "by itself it looks right"
    assert digests_of(bytes(content)) != index_files(folder)[f"../base/{DATA}"]["digests"]
    with pytest.raises((CorruptionError, IncompleteSnapshotError)):
        Snapshot(folder).read_object("0/state/weight")


def test_tensors_that_were_tied_in_the_base_and_are_no_more_are_no_attack(tmp_path: Path) -> None:
    tied = torch.arange(3_000_000.0)
    Snapshot.take(tmp_path / "base", {"state": StateDict(a=tied, b=tied, c=tied)})
    state = StateDict(a=tied, b=tied.clone(), c=tied.clone())
    state["b"][0] = state["c"][-1] = -1
    Snapshot.take(tmp_path / "s", {"state": state}, base=tmp_path / "base")
    found = Snapshot(tmp_path / "s").get_state_dict_for_key("state")
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_many_bases_with_many_files_are_not_compared_with_each_other(folder: Path) -> None:
    """In two megabytes of index they would be four hundred million pairs."""

    def change(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        record = index["bases"]["../base"]
        index["bases"] |= {f"../{number}": record for number in range(20_000)}
        index["files"] |= {f"../{number}/a": {"nbytes": 0, "digests": ""} for number in range(20_000)}

    forge(folder, change)
    with pytest.raises(IncompleteSnapshotError):
        Snapshot(folder).read_object("0/state/weight")

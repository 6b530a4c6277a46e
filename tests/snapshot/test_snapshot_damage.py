"""Damage to a snapshot on disk is found and named, and what is not damaged can still be read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import xxhash
from bitwise import assert_same

from sucrose import Snapshot, StateDict
from sucrose.engine import CHUNK_NBYTES
from sucrose.errors import CorruptionError, FormatVersionError, IncompleteSnapshotError, SucroseError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, LAST = torch.arange(3 * CHUNK_NBYTES // 8), torch.arange(10, dtype=torch.int16)
DATA = "data/0_0.safetensors"
OBJECT = "objects/0/state/object"


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("intact") / "s"
    Snapshot.take(path, {"state": StateDict(first=FIRST, last=LAST, object=(1, "two"), number=3)})
    return path


@pytest.fixture
def folder(intact: Path, tmp_path: Path) -> Path:
    shutil.copytree(intact, tmp_path / "s")
    return tmp_path / "s"


def flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 0x10
    file.write_bytes(content)


def targets() -> dict[str, Any]:
    return {"state": StateDict(first=torch.zeros_like(FIRST), last=torch.zeros_like(LAST))}


@pytest.mark.parametrize(("offset", "chunk"), [(4096, 0), (CHUNK_NBYTES, 1), (2 * CHUNK_NBYTES - 1, 1)])
def test_a_flipped_bit_names_tensor_file_and_offset(each_engine: str, folder: Path, offset: int, chunk: int) -> None:
    flip(folder / DATA, offset)
    snapshot = Snapshot(folder)
    readers: list[Callable[[], object]] = [
        lambda: snapshot.restore(targets()),
        lambda: snapshot.get_state_dict_for_key("state"),
        lambda: snapshot.read_object("0/state/first"),
    ]
    for read in readers:
        with pytest.raises(CorruptionError, match=f"chunk {chunk} of '0/state/first'") as caught:
            read()
        assert (caught.value.key, caught.value.offset) == ("0/state/first", chunk * CHUNK_NBYTES)
        assert caught.value.path == str(folder / DATA)
    assert_same(snapshot.read_object("0/state/last"), LAST)
    assert snapshot.read_object("0/state/object") == (1, "two")


def test_a_flipped_bit_in_the_header_is_found_where_its_chunk_is_read(folder: Path) -> None:
    flip(folder / DATA, 20)
    with pytest.raises(CorruptionError, match="chunk 0"):
        Snapshot(folder).read_object("0/state/first")
    assert_same(Snapshot(folder).read_object("0/state/last"), LAST)


def test_without_verification_damaged_bytes_are_read_as_they_are(each_engine: str, folder: Path) -> None:
    flip(folder / DATA, 4096)
    expected = FIRST.clone()
    expected[0] ^= 0x10
    assert_same(Snapshot(folder).read_object("0/state/first", verify=False), expected)
    target = targets()
    Snapshot(folder).restore(target, verify=False)
    assert_same(target["state"]["first"], expected)


def test_a_flipped_bit_in_an_object_names_it(each_engine: str, folder: Path) -> None:
    flip(folder / OBJECT, 100)
    target = targets()
    with pytest.raises(CorruptionError, match="0/state/object") as caught:
        Snapshot(folder).restore(target)
    assert caught.value.key == "0/state/object"
    assert caught.value.path == str(folder / OBJECT)
    assert not target["state"]["first"].any(), "objects are read first, so nothing was changed"


@pytest.mark.parametrize("file", [".snapshot_metadata", ".snapshot_index"])
def test_a_flipped_bit_anywhere_in_the_records_is_found(folder: Path, file: str) -> None:
    intact = (folder / file).read_bytes()
    for offset in range(0, len(intact), 7):
        flip(folder / file, offset)
        with pytest.raises(SucroseError) as caught:
            Snapshot(folder).restore(targets())
        assert isinstance(caught.value, CorruptionError), offset
        report = Snapshot(folder).verify()
        assert not report
        assert report.problems[0].file == (".snapshot_index" if file == ".snapshot_index" else file)
        (folder / file).write_bytes(intact)
    assert Snapshot(folder).verify()


@pytest.mark.parametrize("file", [DATA, OBJECT, ".snapshot_metadata", ".snapshot_index"])
@pytest.mark.parametrize("change", [-1, 1, -4096, 4096, "empty"])
def test_a_file_that_was_cut_or_extended_is_named(folder: Path, file: str, change: int | str) -> None:
    nbytes = (folder / file).stat().st_size
    os.truncate(folder / file, 0 if change == "empty" else max(0, nbytes + int(change)))
    target = targets()
    with pytest.raises(CorruptionError) as caught:
        Snapshot(folder).restore(target)
    assert Path(str(caught.value.path)).name in (Path(file).name, ".snapshot_metadata")
    assert not target["state"]["first"].any()
    assert not Snapshot(folder).verify()


@pytest.mark.parametrize("file", [DATA, OBJECT, ".snapshot_index"])
def test_a_missing_file_is_named(each_engine: str, folder: Path, file: str) -> None:
    (folder / file).unlink()
    target = targets()
    with pytest.raises(CorruptionError, match="missing") as caught:
        Snapshot(folder).restore(target)
    assert caught.value.path == str(folder / file)
    assert not target["state"]["first"].any()
    report = Snapshot(folder).verify()
    assert [problem.file for problem in report.problems] == [file]


@pytest.mark.parametrize("value", [(1, 2), torch.ones(3)], ids=["object", "tensor"])
def test_an_index_is_missed_whatever_the_snapshot_holds(tmp_path: Path, value: object) -> None:
    Snapshot.take(tmp_path / "s", {"state": StateDict(v=value)})
    (tmp_path / "s" / ".snapshot_index").unlink()
    with pytest.raises(CorruptionError, match=r"\.snapshot_index is missing"):
        Snapshot(tmp_path / "s").get_state_dict_for_key("state")


def test_files_of_another_snapshot_are_told_apart(folder: Path, tmp_path: Path) -> None:
    other = {"state": StateDict(first=FIRST + 1, last=LAST, object=(1, "six"), number=4)}
    Snapshot.take(tmp_path / "other", other)
    for file in (DATA, OBJECT, ".snapshot_metadata", ".snapshot_index"):
        kept = (folder / file).read_bytes()
        shutil.copy(tmp_path / "other" / file, folder / file)
        with pytest.raises(CorruptionError):
            Snapshot(folder).restore(targets())
        assert not Snapshot(folder).verify()
        (folder / file).write_bytes(kept)


def test_verification_lists_everything_that_is_wrong(each_engine: str, folder: Path) -> None:
    report = Snapshot(folder).verify()
    assert report
    assert (report.files, report.problems) == (2, ())
    assert report.nbytes == sum((folder / file).stat().st_size for file in (DATA, OBJECT))
    flip(folder / DATA, 5000)
    flip(folder / DATA, 2 * CHUNK_NBYTES + 5)
    flip(folder / OBJECT, 0)
    report = Snapshot(folder).verify()
    assert not report
    found = {(problem.file, problem.offset, problem.keys) for problem in report.problems}
    assert found == {
        (DATA, 0, ("0/state/first",)),
        (DATA, 2 * CHUNK_NBYTES, ("0/state/first",)),
        (OBJECT, 0, ("0/state/object",)),
    }


def test_verification_sees_damage_done_after_the_snapshot_was_opened(folder: Path) -> None:
    snapshot = Snapshot(folder)
    assert snapshot.metadata.world_size == 1
    flip(folder / ".snapshot_metadata", 50)
    assert not snapshot.verify()


def rewrite_record(folder: Path, **changes: Any) -> None:
    """Changes the metadata, and the index so that it belongs to it."""
    metadata = json.loads((folder / ".snapshot_metadata").read_text()) | changes
    encoded = json.dumps(metadata).encode()
    (folder / ".snapshot_metadata").write_bytes(encoded)
    index = json.loads((folder / ".snapshot_index").read_bytes().partition(b"\n")[0])
    index["metadata"] = {"nbytes": len(encoded), "digests": xxhash.xxh3_128_hexdigest(encoded)}
    write_index(folder, index)


def write_index(folder: Path, index: dict[str, Any]) -> None:
    line = json.dumps(index).encode()
    (folder / ".snapshot_index").write_bytes(line + b"\n" + xxhash.xxh3_128_hexdigest(line).encode() + b"\n")


def test_a_newer_version_is_refused_by_name(folder: Path) -> None:
    rewrite_record(folder, version="0.2.0")
    with pytest.raises(FormatVersionError, match=r"'0\.2\.0'.*newer torch-sucrose"):
        Snapshot(folder).restore(targets())
    rewrite_record(folder, version="7.0", manifest={"0/state": {"type": "Unheard-of"}})
    with pytest.raises(FormatVersionError, match=r"'7\.0'.*newer torch-sucrose") as caught:
        Snapshot(folder).restore(targets())
    assert caught.value.path == str(folder / ".snapshot_metadata")


def test_a_newer_index_is_refused_by_name(folder: Path) -> None:
    index = json.loads((folder / ".snapshot_index").read_bytes().partition(b"\n")[0])
    write_index(folder, {**index, "format_version": 3})
    with pytest.raises(FormatVersionError, match=r"format version 3.*newer torch-sucrose"):
        Snapshot(folder).restore(targets())
    write_index(folder, {"format_version": 3, "everything": "else"})
    with pytest.raises(FormatVersionError, match="format version 3"):
        Snapshot(folder).restore(targets())


HOSTILE: list[dict[str, Any]] = [
    {"location": "../outside"},
    {"location": "/etc/passwd"},
    {"location": "data/../../outside"},
    {"location": ""},
    {"byte_range": [0, 7]},
    {"byte_range": [-8, 12]},
    {"byte_range": [20, 0]},
    {"byte_range": [2**63, 2**63 + 20]},
    {"byte_range": [10**30, 10**30 + 20]},
    {"shape": [-10]},
    {"shape": [2**62, 2**62]},
    {"shape": [1] * 100},
    {"dtype": "torch.float1024"},
    {"serializer": "unheard_of"},
    {"location": ".snapshot_metadata"},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_entries_that_make_no_sense_are_corrupt(each_engine: str, folder: Path, change: dict[str, Any]) -> None:
    manifest = json.loads((folder / ".snapshot_metadata").read_text())["manifest"]
    manifest["0/state/last"].update(change)
    rewrite_record(folder, manifest=manifest)
    for read in (Snapshot(folder).restore, Snapshot(folder).get_state_dict_for_key):
        with pytest.raises((CorruptionError, IncompleteSnapshotError)):
            read(targets() if read.__name__ == "restore" else "state")  # type: ignore[operator]

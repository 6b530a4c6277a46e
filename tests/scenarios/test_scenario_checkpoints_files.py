"""Checkpoints of scenarios: what was written comes back, whoever wrote or reads it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from hypothesis import given
from hypothesis import strategies as st
from scenario_checkpoints import contents_of, names_in, record_of, value_of

import sucrose
from sucrose import Retention, Snapshot
from sucrose.errors import ConfigError, CorruptionError, FormatVersionError, UnsafeObjectError, UnsupportedError
from sucrose.formats import torch_zip
from sucrose.scenarios.checkpoints import CheckpointFolder, list_checkpoints
from sucrose.scenarios.record import MAX_RECORD_NBYTES, RECORD_NAME, decode_record, encode_record
from sucrose.snapshot.process_end import COMMITS
from sucrose.storage import StagedDirectory

if TYPE_CHECKING:
    from pathlib import Path

EXTENSIONS = [".pt", ".snapshot", ".ckpt"]


def trained() -> dict[str, Any]:
    """The states of a small training, with all that makes states difficult."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 4, bias=False))
    model[2].weight = torch.nn.Parameter(model[0].weight.detach().T.contiguous())
    tied = torch.ones(3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, amsgrad=True)
    model(torch.randn(5, 4)).square().mean().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optim": optimizer.state_dict(),
        "tied": OrderedDict(a=tied, b=tied, half=tied[1:]),
        "tensors": {
            "bf16": torch.randn(5).bfloat16(),
            "0-d": torch.tensor(3),
            "empty": torch.empty(0, 3),
            "transposed": torch.arange(6.0).reshape(2, 3).T,
            "complex": torch.ones(2, dtype=torch.complex64),
            "bool": torch.arange(3) > 1,
        },
        "step": 12,
        "history": [0.5, float("inf"), (1, None, "é"), {"nested/key%": torch.zeros(2)}],
        "sucrose": {"random": {"torch": torch.get_rng_state(), "python": [3, [1, 2, 3]]}},
    }


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_was_written_comes_back_bit_for_bit(tmp_path: Path, extension: str) -> None:
    folder = CheckpointFolder(names_in(tmp_path / "new" / "case1", extension), Retention())
    states, record = trained(), record_of(10, metrics={"loss": 0.25, "worst": float("nan"), "best": float("-inf")})
    folder.write(states, record)
    loaded = folder.read()
    assert loaded is not None
    assert_same({name: loaded.contents[name] for name in states}, states)
    assert (loaded.epoch, loaded.is_mid_epoch, loaded.path) == (10, False, folder.names.path_of(10))
    tied = loaded.contents["tied"]
    assert tied["a"].untyped_storage().data_ptr() == tied["b"].untyped_storage().data_ptr()
    found = loaded.record
    assert found is not None
    assert repr(found) == repr(record)  # NaN is not equal to itself


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_epoch_can_be_written_again(tmp_path: Path, extension: str) -> None:
    folder = CheckpointFolder(names_in(tmp_path, extension), Retention())
    for value in (1.0, 2.0, 3.0):
        folder.write(contents_of(value), record_of(5))
    loaded = folder.read(5)
    assert loaded is not None
    assert value_of(loaded.contents) == 3.0
    assert os.listdir(tmp_path) == [f"base_case1_e5{extension}"]


def test_what_is_changed_after_a_write_is_not_in_the_snapshot(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path, ".snapshot"), Retention())
    contents = contents_of(1.0, numel=1_000_000)
    for epoch in (1, 2, 3):
        contents["model"]["weight"].fill_(epoch)
        contents["value"] = float(epoch)
        folder.write(contents, record_of(epoch))
    contents["model"]["weight"].fill_(-1)
    for epoch in (1, 2, 3):
        loaded = folder.read(epoch)
        assert loaded is not None
        assert value_of(loaded.contents) == epoch


def test_torch_load_sees_the_objects_and_nothing_else(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention())
    states = trained()
    folder.write(states, record_of(10))
    path = folder.names.path_of(10)
    for loaded in (torch.load(path, weights_only=True), torch.load(path, weights_only=True, mmap=True)):
        assert_same(loaded, states)
    assert_same(sucrose.load(path), states)


def test_the_record_is_json_that_any_zip_program_finds(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention())
    folder.write(contents_of(1.0), record_of(10))
    with zipfile.ZipFile(folder.names.path_of(10)) as archive:
        assert archive.testzip() is None
        content = json.loads(archive.read(f"archive/{RECORD_NAME}"))
    assert (content["epoch"], content["step"], content["config"]["optim.lr"]) == (10, 1000, 1e-3)


@pytest.mark.parametrize("is_zip", [True, False])
def test_files_of_torch_under_the_same_names_are_resumed(tmp_path: Path, is_zip: bool) -> None:
    names = names_in(tmp_path)
    states = trained()
    torch.save(states, names.path_of(3), _use_new_zipfile_serialization=is_zip)
    loaded = CheckpointFolder(names, Retention()).read()
    assert loaded is not None
    assert (loaded.epoch, loaded.record) == (3, None)
    assert_same(loaded.contents, states)
    (info,) = list_checkpoints(names)
    assert (info.record, info.problem, info.nbytes) == (None, None, os.path.getsize(names.path_of(3)))
    assert info.saved_ns == os.stat(names.path_of(3)).st_mtime_ns


def test_snapshots_that_others_took_are_resumed(tmp_path: Path) -> None:
    names = names_in(tmp_path, ".snapshot")
    model = torch.nn.Linear(3, 2)
    Snapshot.take(names.path_of(3), {"model": model})
    loaded = CheckpointFolder(names, Retention()).read()
    assert loaded is not None
    assert_same(loaded.contents, {"model": model.state_dict()})
    assert loaded.record is None
    assert list_checkpoints(names)[0].problem is None


def test_objects_are_restored_from_a_snapshot_by_their_own_names(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path, ".snapshot"), Retention())
    model, fresh = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    folder.write({"model": model.state_dict(), "step": 5}, record_of(1))
    folder.wait()
    snapshot = Snapshot(folder.names.path_of(1))
    snapshot.restore({"model": fresh})
    assert_same(fresh.state_dict(), model.state_dict())
    assert snapshot.read_object("0/step") == 5
    assert snapshot.verify()


class Anything:
    """Needs a full unpickler."""

    def __init__(self, value: int) -> None:
        self.value = value


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_object_that_weights_only_refuses_names_the_way_out_and_is_no_damage(tmp_path: Path, extension: str) -> None:
    folder = CheckpointFolder(names_in(tmp_path, extension), Retention())
    folder.write(contents_of(1.0), record_of(1))
    folder.write({"thing": Anything(7)}, record_of(2))
    with pytest.raises(UnsafeObjectError, match=r"loader_kwds=\{'weights_only': False\}"):
        folder.read()
    assert folder.names.epochs() == [1, 2]
    loaded = folder.read(loader_kwds={"weights_only": False})
    assert loaded is not None
    assert loaded.contents["thing"].value == 7


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("location", ["cpu", "meta", {"cpu": "meta"}, lambda storage, _: storage.clone().fill_(0)])
def test_map_location_decides_where_tensors_go(tmp_path: Path, extension: str, location: Any) -> None:
    folder = CheckpointFolder(names_in(tmp_path, extension), Retention())
    folder.write(contents_of(1.0), record_of(1))
    path = tmp_path / "reference.pt"
    torch.save(contents_of(1.0), path)
    expected = torch.load(path, map_location=location, weights_only=True)["model"]["weight"]
    loaded = folder.read(loader_kwds={"map_location": location})
    assert loaded is not None
    found = loaded.contents["model"]["weight"]
    assert (found.device, found.shape) == (expected.device, expected.shape)
    assert found.is_meta or torch.equal(found, expected)


def test_other_arguments_of_torch_load_are_handed_to_it(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention())
    folder.write(contents_of(1.0), record_of(1))
    for options in ({"mmap": True}, {"mmap": False}, {"weights_only": False, "encoding": "ascii"}):
        loaded = folder.read(loader_kwds=options)
        assert loaded is not None
        assert value_of(loaded.contents) == 1.0
    with pytest.raises(TypeError, match="no_such_option"):
        folder.read(loader_kwds={"weights_only": False, "no_such_option": 1})
    assert folder.names.epochs() == [1]


def test_arguments_that_mean_nothing_for_snapshots_are_refused(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path, ".snapshot"), Retention())
    folder.write(contents_of(1.0), record_of(1))
    with pytest.raises(ConfigError, match="encoding"):
        folder.read(loader_kwds={"encoding": "ascii"})


def test_a_missing_epoch_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention())
    assert folder.read() is None
    with pytest.raises(FileNotFoundError, match="none at all"):
        folder.read(3)
    for epoch in (2, 10):
        folder.write(contents_of(epoch), record_of(epoch))
    with pytest.raises(FileNotFoundError, match="epoch 3; there are those of 2, 10") as caught:
        folder.read(3)
    assert caught.value.filename == folder.names.path_of(3)


def test_the_middle_of_an_epoch_is_newer_than_its_beginning_and_older_than_its_end(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention())
    found = []
    for epoch, is_mid_epoch in [(1, False), (1, True), (2, False), (3, True), (3, False), (3, True)]:
        folder.write(contents_of(1.0), record_of(epoch, is_mid_epoch=is_mid_epoch))
        loaded = folder.read()
        assert loaded is not None
        assert loaded.record is not None
        assert loaded.record.is_mid_epoch == loaded.is_mid_epoch
        found.append((loaded.epoch, loaded.is_mid_epoch))
    assert found == [(1, False), (1, True), (2, False), (3, True), (3, True), (3, True)]
    assert folder.names.epochs() == [1, 2, 3]


@pytest.mark.parametrize("extension", [".pt", ".snapshot"])
def test_listing_says_what_there_is_without_torch(tmp_path: Path, extension: str) -> None:
    folder = CheckpointFolder(names_in(tmp_path, extension), Retention())
    for epoch in (2, 10):
        folder.write(contents_of(epoch), record_of(epoch, metrics={"loss": 1 / epoch}, saved_ns=epoch))
    folder.write(contents_of(1.0), record_of(10, is_mid_epoch=True))
    folder.wait()
    (tmp_path / f"base_case1_e500{extension}.tmp").touch()
    program = f"""
import sys
from sucrose.scenarios.checkpoint_names import CheckpointNames
from sucrose.scenarios.checkpoints import list_checkpoints
for info in list_checkpoints(CheckpointNames({str(tmp_path)!r}, "base_case1", "e", {extension!r})):
    print(info.epoch, info.is_mid_epoch, info.saved_ns, info.record.step, info.problem)
assert "torch" not in sys.modules and "numpy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 False 2 200 None", "10 False 10 1000 None", "10 True 0 1000 None"]
    sizes = [info.nbytes for info in list_checkpoints(folder.names)]
    on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert sum(sizes) == on_disk


TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_records_keep_any_config(config: dict[str, Any]) -> None:
    record = replace(record_of(3), config=config)
    assert decode_record(encode_record(record), path="e3.pt") == record


@given(st.data())
def test_a_hostile_record_is_damage_and_nothing_else(data: st.DataObject) -> None:
    good = json.loads(encode_record(record_of(3)))
    bad = data.draw(
        st.binary(max_size=30)
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.tuples(st.sampled_from(sorted(good)), JSON).map(
            lambda item: json.dumps({**good, item[0]: item[1]}).encode()
        )
        | st.sampled_from(
            [
                b"[" * 100_000,
                b'{"format_version": ' + b"9" * 10_000 + b"}",
                json.dumps({**good, "metrics": {"\ud800": 1.0}}).encode(),
                json.dumps({**good, "epoch": -1}).encode(),
                json.dumps({**good, "epoch": 1 << 63}).encode(),
                json.dumps({**good, "epoch": 1.5}).encode(),
                json.dumps({name: value for name, value in good.items() if name != "logs"}).encode(),
            ]
        )
    )
    try:
        record = decode_record(bad, path="e3.pt")
    except (CorruptionError, FormatVersionError) as error:
        str(error).encode()  # a terminal takes it
    else:
        assert isinstance(record.epoch, int)
        assert all(isinstance(value, float) for value in record.metrics.values())
        repr(record).encode()


def test_a_record_that_would_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention())
    with pytest.raises(UnsupportedError, match="keep large values out"):
        folder.write(contents_of(1.0), replace(record_of(1), config={"text": "x" * MAX_RECORD_NBYTES}))
    with pytest.raises(UnsupportedError, match="JSON"):
        folder.write(contents_of(1.0), replace(record_of(1), config={"object": object()}))
    assert os.listdir(tmp_path) == []


def with_record(path: str, content: bytes) -> None:
    """Writes a file with this as its record."""
    layout = torch_zip.plan(
        [
            torch_zip.inline("archive/data.pkl", b"\x80\x02}."),
            torch_zip.inline(f"archive/{RECORD_NAME}", content),
            torch_zip.inline("archive/version", b"3\n"),
        ]
    )
    with open(path, "wb") as file:
        file.write(layout.frame)


def test_a_hostile_record_in_a_file_is_told_of_and_not_loaded(tmp_path: Path) -> None:
    names = names_in(tmp_path)
    for content in (b"not JSON", b"{}", b" " * (MAX_RECORD_NBYTES + 1)):
        with_record(names.path_of(1), content)
        (info,) = list_checkpoints(names)
        assert info.record is None
        assert info.problem
        with pytest.raises(CorruptionError):
            CheckpointFolder(names, Retention()).read(1)


def test_objects_of_a_newer_release_are_loaded_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = names_in(tmp_path)
    with_record(names.path_of(1), encode_record(record_of(1)).replace(b'"format_version": 1', b'"format_version": 2'))
    (info,) = list_checkpoints(names)
    assert (info.record, info.problem) == (None, None)
    loaded = CheckpointFolder(names, Retention()).read()
    assert loaded is not None
    assert (loaded.contents, loaded.record) == ({}, None)
    assert "format version 2" in caplog.text


def test_saving_that_fails_changes_nothing(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention())
    folder.write(contents_of(1.0), record_of(1))
    before = (tmp_path / "base_case1_e1.pt").read_bytes()
    with pytest.raises((AttributeError, TypeError)):
        folder.write({"value": lambda: 0}, record_of(1))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"base_case1_e1.pt": before}


def test_a_snapshot_that_failed_in_the_background_is_told_of_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(names_in(tmp_path, ".snapshot"), Retention())

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for ask in (folder.wait, folder.read, lambda: folder.write(contents_of(2.0), record_of(2))):
        with monkeypatch.context() as patches:
            patches.setattr(StagedDirectory, "commit", fail)
            folder.write(contents_of(1.0), record_of(1))
            while COMMITS.under_way():
                time.sleep(0.001)
        with pytest.raises(OSError, match="No space") as caught:
            ask()
        assert caught.value.errno == errno.ENOSPC
    assert folder.read() is None
    folder.write(contents_of(2.0), record_of(2))
    loaded = folder.read()
    assert loaded is not None
    assert value_of(loaded.contents) == 2.0

"""Damaged checkpoints of scenarios: never loaded, never in the way of an older one, never lost without a word."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenario_checkpoints import contents_of, names_in, record_of, value_of

from sucrose import Retention
from sucrose.errors import ConfigError, CorruptionError
from sucrose.scenarios.checkpoints import CheckpointFolder, list_checkpoints, loading

EXTENSIONS = [".pt", ".snapshot"]


def folder_with(folder: Path, extension: str, epochs: int = 3) -> CheckpointFolder:
    checkpoints = CheckpointFolder(names_in(folder, extension), Retention())
    for epoch in range(1, epochs + 1):
        checkpoints.write(contents_of(epoch), record_of(epoch))
    checkpoints.wait()
    return checkpoints


def some_file(checkpoint: str, chance: random.Random) -> Path:
    path = Path(checkpoint)
    files = sorted(inner for inner in path.rglob("*") if inner.is_file() and inner.stat().st_size)
    return chance.choice(files) if files else path


@pytest.fixture(scope="module", params=EXTENSIONS)
def pristine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CheckpointFolder:
    return folder_with(tmp_path_factory.mktemp("pristine"), request.param, epochs=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), kind=st.sampled_from(["flip", "truncate", "zeros", "remove"]))
def test_whatever_is_damaged_the_newest_sound_epoch_is_found(
    tmp_path_factory: pytest.TempPathFactory, pristine: CheckpointFolder, seed: int, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("damaged") / "case1"
    shutil.copytree(pristine.names.folder, folder)
    names = names_in(folder, pristine.names.extension)
    chance = random.Random(seed)
    path = some_file(names.path_of(2), chance)
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif kind == "truncate":
        del data[at:]
    elif kind == "zeros":
        data[at : at + 512] = bytes(len(data[at : at + 512]))
    path.write_bytes(data)
    if kind == "remove":
        path.unlink()
    listed = list_checkpoints(names)
    loaded = CheckpointFolder(names, Retention()).read()
    assert loaded is not None
    assert value_of(loaded.contents) == loaded.epoch
    if loaded.epoch == 1:
        assert not os.path.lexists(names.path_of(2))
    else:  # padding between records is nobody's, and so is nothing else
        assert listed[-1].problem is None
        assert names.extension == ".pt"
    assert all(info.problem is None for info in list_checkpoints(names))
    shutil.rmtree(folder.parent)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_damaged_epoch_goes_to_quarantine_with_its_reason(
    tmp_path: Path, extension: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):  # a name that is in quarantine already is no obstacle
        folder = folder_with(tmp_path, extension)
        cut = some_file(folder.names.path_of(3), random.Random(0))
        os.truncate(cut, cut.stat().st_size - 1)
        (problem,) = [info.problem for info in list_checkpoints(folder.names) if info.problem is not None]
        assert str(cut) in problem or folder.names.path_of(3) in problem
        loaded = folder.read()
        assert loaded is not None
        assert loaded.epoch == 2
        assert folder.names.epochs() == [1, 2]
        assert "moved to" in caplog.text
    name = f"base_case1_e3{extension}"
    quarantined = {path.name: path for path in (tmp_path / "quarantine").iterdir()}
    assert set(quarantined) == {name, f"{name}.reason", f"{name}.2", f"{name}.2.reason"}
    assert name in quarantined[f"{name}.reason"].read_text()


def test_legacy_files_that_were_cut_off_are_passed_over(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ".pt", epochs=1)
    path = folder.names.path_of(2)
    torch.save(contents_of(2.0), path, _use_new_zipfile_serialization=False)
    os.truncate(path, os.path.getsize(path) - 10)
    loaded = folder.read()
    assert loaded is not None
    assert loaded.epoch == 1


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_where_all_are_damaged_the_program_is_told_each_time_and_nothing_moves(tmp_path: Path, extension: str) -> None:
    folder = folder_with(tmp_path, extension)
    for epoch in (1, 2, 3):
        cut = some_file(folder.names.path_of(epoch), random.Random(epoch))
        os.truncate(cut, cut.stat().st_size // 2)
    for _ in range(2):
        with pytest.raises(CorruptionError) as caught:
            folder.read()
        assert all(f"base_case1_e{epoch}{extension}" in str(caught.value) for epoch in (1, 2, 3))
        assert caught.value.path == str(tmp_path)
    assert folder.names.epochs() == [1, 2, 3]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_epoch_that_was_asked_for_is_not_replaced_by_another(tmp_path: Path, extension: str) -> None:
    folder = folder_with(tmp_path, extension)
    cut = some_file(folder.names.path_of(2), random.Random(0))
    os.truncate(cut, cut.stat().st_size // 2)
    with pytest.raises(CorruptionError):
        folder.read(2)
    assert folder.names.epochs() == [1, 2, 3]
    assert not (tmp_path / "quarantine").exists()


def test_a_rank_that_is_not_the_first_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_with(tmp_path, ".pt")
    os.truncate(folder.names.path_of(3), 100)
    monkeypatch.setenv("RANK", "1")
    loaded = folder.read()
    assert loaded is not None
    assert loaded.epoch == 2
    assert folder.names.epochs() == [1, 2, 3]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_an_epoch_that_somebody_takes_away_meanwhile_is_not_called_damaged(
    tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_with(tmp_path, extension)
    inspect = loading.inspect

    def take_away(path: str, *, is_snapshot: bool) -> object:
        if path == folder.names.path_of(3):
            os.rename(path, tmp_path / "elsewhere")
        return inspect(path, is_snapshot=is_snapshot)

    monkeypatch.setattr(loading, "inspect", take_away)
    loaded = folder.read()
    assert loaded is not None
    assert loaded.epoch == 2
    assert caplog.text == ""
    (tmp_path / "elsewhere").rename(folder.names.path_of(3))  # the only one, and taken away again
    for epoch in (1, 2):
        os.rename(folder.names.path_of(epoch), tmp_path / f"elsewhere-{epoch}")
    assert folder.read() is None


def test_a_program_without_the_device_does_not_take_that_for_damage(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, ".pt")

    def no_device(storage: object, location: str) -> object:
        raise LookupError(location)

    for options in ({}, {"encoding": "ascii", "weights_only": False}):
        with pytest.raises(LookupError, match="cpu"):
            folder.read(loader_kwds={"map_location": no_device, **options})
    assert folder.names.epochs() == [1, 2, 3]


def test_a_torn_snapshot_makes_room_for_a_new_one_of_its_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = folder_with(tmp_path, ".snapshot")
    (Path(folder.names.path_of(3)) / ".snapshot_metadata").unlink()
    folder.write(contents_of(30.0), record_of(3))
    loaded = folder.read()
    assert loaded is not None
    assert value_of(loaded.contents) == 30.0
    assert (tmp_path / "quarantine" / "base_case1_e3.snapshot").is_dir()
    assert "moved to" in caplog.text


def test_something_else_than_a_dict_is_no_checkpoint(tmp_path: Path) -> None:
    names = names_in(tmp_path)
    torch.save([1, 2], names.path_of(1))
    with pytest.raises(CorruptionError, match="holds a list"):
        CheckpointFolder(names, Retention()).read(1)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_the_best_is_chosen_by_its_metric(tmp_path: Path, extension: str) -> None:
    names = names_in(tmp_path, extension)
    with pytest.raises(ConfigError, match=r"keep\.best"):
        CheckpointFolder(names, Retention()).read("best")
    folder = CheckpointFolder(names, Retention(keep_best=("accuracy", 2, "max")))
    with pytest.raises(FileNotFoundError, match="'accuracy'"):
        folder.read("best")
    for epoch, accuracy in enumerate([0.1, 0.7, 0.7, float("nan"), 0.3], 1):
        folder.write(contents_of(epoch), record_of(epoch, metrics={"accuracy": accuracy}))
    loaded = folder.read("best")
    assert loaded is not None
    assert loaded.epoch == 3  # the newer of two equal ones
    folder.write(contents_of(6.0), record_of(6, is_mid_epoch=True, metrics={"accuracy": 1.0}))
    assert folder.names.epochs() == [2, 3, 5]
    loaded = folder.read("best")
    assert loaded is not None
    assert loaded.epoch == 3

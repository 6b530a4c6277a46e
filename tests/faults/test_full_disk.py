"""Too little space: known before the first byte is written; found out meanwhile, nothing is lost and nothing left."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from mounts import MIB, tmpfs
from scenario_checkpoints import contents_of, names_in, record_of, value_of

import sucrose
from sucrose import Catalog, Retention, Snapshot, StateDict
from sucrose.errors import StorageError, StorageFullError
from sucrose.scenarios.checkpoints import CheckpointFolder
from sucrose.snapshot import single_file
from sucrose.snapshot.places import opening
from sucrose.storage import free_space

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL, LARGE = 1 << 18, 1 << 22  # elements, of 4 bytes


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with tmpfs(tmp_path / "disk", nbytes=12 * MIB) as folder:
        yield folder


def state(numel: int, value: float) -> dict[str, Any]:
    return {"state": StateDict(tensor=torch.full((numel,), value), value=value)}


def take(folder: Path, numel: int, value: float) -> None:
    Snapshot.take(folder / "s", state(numel, value), overwrite=True)


def async_take(folder: Path, numel: int, value: float) -> None:
    Snapshot.async_take(folder / "s", state(numel, value), overwrite=True).wait()


def save(folder: Path, numel: int, value: float) -> None:
    sucrose.save({"tensor": torch.full((numel,), value)}, folder / "s.pt")


def save_generation(folder: Path, numel: int, value: float) -> None:
    Catalog(folder / "catalog").save(int(value), state(numel, value))


def save_generation_async(folder: Path, numel: int, value: float) -> None:
    Catalog(folder / "catalog").async_save(int(value), state(numel, value)).wait()


def write_checkpoint(extension: str) -> Callable[[Path, int, float], None]:
    def written(folder: Path, numel: int, value: float) -> None:
        checkpoints = CheckpointFolder(names_in(folder, extension), Retention())
        checkpoints.write(contents_of(value, numel), record_of(int(value)))
        checkpoints.wait()
        checkpoints.close()

    return written


def value_in_snapshot(folder: Path) -> float:
    assert Snapshot(folder / "s").verify()
    return float(Snapshot(folder / "s").read_object("0/state/tensor")[0])


def value_in_file(folder: Path) -> float:
    return float(torch.load(folder / "s.pt")["tensor"][0])


def value_in_catalog(folder: Path) -> float:
    found = state(SMALL, 0.0)
    assert Catalog(folder / "catalog").restore_latest(found) is not None
    return float(found["state"]["tensor"][0])


def value_in_checkpoint(extension: str) -> Callable[[Path], float]:
    def value(folder: Path) -> float:
        loaded = CheckpointFolder(names_in(folder, extension), Retention()).read()
        assert loaded is not None
        return value_of(loaded.contents)

    return value


WAYS = {
    "take": (take, value_in_snapshot),
    "async_take": (async_take, value_in_snapshot),
    "save": (save, value_in_file),
    "Catalog.save": (save_generation, value_in_catalog),
    "Catalog.async_save": (save_generation_async, value_in_catalog),
    "scenario, files": (write_checkpoint(".pt"), value_in_checkpoint(".pt")),
    "scenario, snapshots": (write_checkpoint(".snapshot"), value_in_checkpoint(".snapshot")),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_fit_is_refused_with_the_figures_before_anything_is_written(
    disk: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, get = WAYS[way]
    put(disk, SMALL, 1.0)
    before = contents(disk)
    with monkeypatch.context() as patched:
        patched.setattr("sucrose.engine.native.NativeEngine.write", pytest.fail)
        with pytest.raises(StorageFullError, match=r"needs 16\.0 MiB, and \d+\.\d MiB are free") as caught:
            put(disk, LARGE, 2.0)
    assert caught.value.errno == errno.ENOSPC
    assert LARGE * 4 <= caught.value.needed_nbytes < LARGE * 4 + 40_000
    assert 0 < caught.value.free_nbytes <= 11 * MIB
    assert caught.value.path is not None
    assert Path(caught.value.path).is_relative_to(disk)
    after = contents(disk)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if ".tmp-" in name]
    assert get(disk) == 1.0
    put(disk, SMALL, 3.0)
    assert get(disk) == 3.0


@pytest.mark.parametrize("way", WAYS)
def test_space_that_somebody_else_uses_up_meanwhile_is_the_same_error_and_the_next_save_succeeds(
    disk: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, get = WAYS[way]
    put(disk, SMALL, 1.0)
    with (disk / "somebody else's").open("wb") as filler:
        filler.write(bytes(8 * MIB))
    before = contents(disk)
    with monkeypatch.context() as patched:
        for module in (opening, single_file):
            patched.setattr(module, "check_free_space", lambda *_, **__: None)
        with pytest.raises(StorageFullError, match=r"No space left.*needs about 6\.0 MiB, and \d") as caught:
            put(disk, LARGE * 3 // 8, 2.0)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.needed_nbytes >= 6 * MIB > caught.value.free_nbytes > 0
    after = contents(disk)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if ".tmp-" in name]
    assert not list(disk.rglob(".*.tmp-*"))
    assert get(disk) == 1.0
    (disk / "somebody else's").unlink()
    put(disk, SMALL, 3.0)
    assert get(disk) == 3.0


def test_objects_that_fill_the_disk_leave_nothing(each_engine: str, disk: Path) -> None:
    take(disk, SMALL, 1.0)
    large = {"state": StateDict(object=("x" * 14 * MIB,), tensor=torch.ones(100))}
    with pytest.raises(StorageFullError, match=r"needs about 14\.0 MiB") as caught:
        Snapshot.take(disk / "s", large, overwrite=True)
    assert caught.value.needed_nbytes > 14 * MIB > caught.value.free_nbytes
    assert "objects/0/state/object" in str(caught.value.path)
    assert os.listdir(disk) == ["s"]
    assert value_in_snapshot(disk) == 1.0


def test_an_overwrite_says_that_both_need_room(disk: Path) -> None:
    numel = 7 * MIB // 4
    take(disk, numel, 1.0)
    with pytest.raises(StorageFullError, match="stays until the new one is complete, so both need room"):
        take(disk, numel, 2.0)
    assert value_in_snapshot(disk) == 1.0
    with pytest.raises(StorageFullError) as caught:
        Snapshot.take(disk / "another", state(numel, 2.0))
    assert "both need room" not in str(caught.value)
    assert os.listdir(disk) == ["s"]


def test_a_file_system_without_inodes_says_so(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", options="nr_inodes=12") as folder:
        take(folder, 100, 1.0)
        used = len(list(folder.rglob("*"))) + 1
        for number in range(12 - used):
            (folder / f"filler {number}").touch()
        with pytest.raises(StorageFullError, match="no free inode"):
            take(folder, 100, 2.0)
        assert not list(folder.glob(".*"))
        assert value_in_snapshot(folder) == 1.0
        for filler in folder.glob("filler*"):
            filler.unlink()
        take(folder, 100, 2.0)
        assert value_in_snapshot(folder) == 2.0


def test_a_catalog_waits_for_the_space_that_its_collection_frees(disk: Path) -> None:
    catalog = Catalog(disk / "catalog", keep_last=1)
    for step in range(1, 9):  # of 5 MiB each, so that two fit and three do not
        catalog.save(step, state(5 * MIB // 4, float(step)))
    catalog.collect()
    assert catalog.steps() == [8]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_quota_is_told_from_a_lack_of_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(tmp_path / "s"))

    take(tmp_path, 100, 1.0)
    with monkeypatch.context() as patched:
        patched.setattr("sucrose.storage.local.StagedDirectory.write", refuse)
        with pytest.raises(StorageFullError, match="limited by a quota") as caught:
            take(tmp_path, 100, 2.0)
    assert caught.value.errno == code
    assert re.search(os.strerror(code), str(caught.value))
    assert value_in_snapshot(tmp_path) == 1.0
    assert os.listdir(tmp_path) == ["s"]


class _Unlimited:
    f_blocks = f_bfree = f_bavail = f_files = f_ffree = 0
    f_frsize = 4096


@pytest.mark.parametrize("answer", ["none", "zeros"])
def test_a_file_system_that_does_not_tell_lets_everything_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    def statvfs(_: str) -> _Unlimited:
        if answer == "none":
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return _Unlimited()

    with monkeypatch.context() as patched:
        patched.setattr(os, "statvfs", statvfs)
        assert free_space.free_nbytes(str(tmp_path)) is None
        take(tmp_path, 100, 1.0)
    assert value_in_snapshot(tmp_path) == 1.0


def test_blocks_that_are_reserved_for_root_are_roots_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reserving(_Unlimited):
        f_blocks, f_bfree, f_bavail = 100, 10, 4

    monkeypatch.setattr(os, "statvfs", lambda _: Reserving())
    free = {}
    for user in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        free[user] = free_space.free_nbytes(str(tmp_path))
    assert free == {0: 40_960, 1000: 16_384}


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_full_disk_that_the_engine_finds_is_an_error_of_the_system(
    disk: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("SUCROSE_ENGINE", engine)
    monkeypatch.setattr(opening, "check_free_space", lambda *_, **__: None)
    take(disk, SMALL, 1.0)
    for direct_min_nbytes in (0, 1 << 40):
        monkeypatch.setenv("SUCROSE_DIRECT_MIN_NBYTES", str(direct_min_nbytes))
        with pytest.raises(StorageError) as caught:
            take(disk, LARGE, 2.0)
        assert isinstance(caught.value, StorageFullError)
        assert os.listdir(disk) == ["s"]
        assert value_in_snapshot(disk) == 1.0


@pytest.mark.parametrize("compression", ["zstd:1"])
def test_what_may_become_small_is_not_refused(disk: Path, compression: str) -> None:
    Snapshot.take(disk / "s", state(LARGE, 1.0), compression=compression)
    restored = state(LARGE, 0.0)
    Snapshot(disk / "s").restore(restored)
    assert_same(restored["state"]["tensor"], torch.full((LARGE,), 1.0))

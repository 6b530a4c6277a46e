"""The crash simulator itself: it finds what is not safe, and allows what is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

import sucrose
import sucrose.storage.local as package_code
from sucrose.testing import SITES, count_calls, crash, inject, kill

HALF = b"a" * 512 + b"b" * 512


def run_as_package(source: str, folder: Path) -> None:
    """Runs code as if it were the package's own: that of others is not watched."""
    exec(compile(source, "<package>", "exec"), {"__name__": package_code.__name__, "os": os, "folder": str(folder)})


def contents_after(source: str, tmp_path: Path, *, per_point: int = 64) -> set[tuple[tuple[str, bytes], ...]]:
    """All that may be in the folder after the whole of the code has run."""
    folder, states = tmp_path / "folder", tmp_path / "states"
    folder.mkdir()
    states.mkdir()
    with crash.record(folder) as recording:
        run_as_package(source, folder)
    trace = recording.trace
    found = set()
    for state in crash.states(trace, states, seed=1, per_point=per_point, points=[len(trace.changes)]):
        root = Path(state.folder)
        files = [path for path in root.rglob("*") if path.is_file()]
        found.add(tuple(sorted((str(path.relative_to(root)), path.read_bytes()) for path in files)))
    return found


WRITE = """
fd = os.open(f"{folder}/a", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
os.write(fd, b"a" * 512 + b"b" * 512)
"""
SYNC_FOLDER = """
folder_fd = os.open(folder, os.O_RDONLY)
os.fsync(folder_fd)
os.close(folder_fd)
"""


def test_a_file_that_nobody_fsyncs_may_be_missing_empty_torn_or_zeros(tmp_path: Path) -> None:
    found = contents_after(WRITE + "os.close(fd)", tmp_path, per_point=400)
    assert () in found
    data = {dict(files)["a"] for files in found if files}
    assert {b"", HALF, bytes(1024), b"a" * 512 + bytes(512), bytes(512) + b"b" * 512} <= data
    assert all(len(one) <= 1024 for one in data)
    assert {one[:512] for one in data if len(one) == 1024} == {b"a" * 512, bytes(512)}


def test_an_fsync_of_the_file_makes_its_bytes_safe_and_not_its_name(tmp_path: Path) -> None:
    assert contents_after(WRITE + "os.fsync(fd); os.close(fd)", tmp_path) == {(), (("a", HALF),)}


def test_an_fsync_of_the_folder_makes_the_name_safe_and_not_the_bytes(tmp_path: Path) -> None:
    found = contents_after(WRITE + "os.close(fd)" + SYNC_FOLDER, tmp_path)
    assert () not in found
    assert (("a", b""),) in found


def test_what_is_fsynced_with_its_folder_is_there(tmp_path: Path) -> None:
    assert contents_after(WRITE + "os.fsync(fd); os.close(fd)" + SYNC_FOLDER, tmp_path) == {(("a", HALF),)}


def test_a_rename_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    source = WRITE + "os.fsync(fd); os.close(fd)" + SYNC_FOLDER + "os.rename(f'{folder}/a', f'{folder}/b')"
    assert contents_after(source, tmp_path) == {(("a", HALF),), (("b", HALF),)}


def test_what_a_failed_fsync_was_to_write_is_not_safe_after_one_that_succeeds(tmp_path: Path) -> None:
    source = WRITE + SYNC_FOLDER + "try:\n  os.fsync(fd)\nexcept OSError:\n  pass\nos.fsync(fd); os.close(fd)"
    with inject("fsync", nth=2):
        found = contents_after(source, tmp_path)
    assert (("a", b""),) in found
    assert (("a", HALF),) in found


def test_a_truncation_is_there_or_not(tmp_path: Path) -> None:
    source = WRITE + "os.fsync(fd)" + SYNC_FOLDER + "os.ftruncate(fd, 512); os.close(fd)"
    assert contents_after(source, tmp_path) == {(("a", HALF),), (("a", HALF[:512]),)}


def test_folders_come_and_go_like_files(tmp_path: Path) -> None:
    source = """
os.makedirs(f"{folder}/x/y")
with open(f"{folder}/x/y/a", "xb") as file:
    file.write(b"abc")
    file.flush()
    os.fsync(file.fileno())
os.unlink(f"{folder}/x/y/a")
os.rmdir(f"{folder}/x/y")
"""
    assert contents_after(source, tmp_path, per_point=256) == {(), (("x/y/a", b"abc"),)}


def test_changes_that_others_make_are_noticed(tmp_path: Path) -> None:
    with pytest.raises(crash.IncompleteTraceError, match="stranger") as caught, crash.record(tmp_path):
        (tmp_path / "stranger").write_bytes(b"x")
    assert caught.value.path == str(tmp_path / "stranger")


def test_states_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    with crash.record(tmp_path) as recording:
        sucrose.save(torch.arange(300), tmp_path / "weights.pt")

    def seen(seed: int) -> list[tuple[int, str, tuple[str, ...], dict[str, bytes]]]:
        (tmp_path / "states").mkdir(exist_ok=True)
        return [
            (
                state.point,
                state.kind,
                state.lost,
                {path.name: path.read_bytes() for path in Path(state.folder).iterdir()},
            )
            for state in crash.states(recording.trace, tmp_path / "states", seed=seed, per_point=3)
        ]

    assert seen(1) == seen(1)
    assert seen(1) != seen(2)


def test_calls_of_the_program_itself_are_neither_counted_nor_failed(tmp_path: Path) -> None:
    with inject("open", forever=True), inject("unlink", forever=True), count_calls() as calls:
        (tmp_path / "mine").write_bytes(b"x")
        (tmp_path / "mine").unlink()
    assert set(calls) == set(SITES)
    assert not any(calls.values())


def test_functions_of_the_library_are_their_own_again_afterwards() -> None:
    before = os.open, os.stat, open
    with inject("open"):
        assert os.open is not before[0]
    assert (os.open, os.stat, open) == before


@pytest.mark.parametrize("wrong", [{"nth": 0}, {"times": 0}, {"errno": 0}], ids=str)
def test_rules_that_mean_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"), inject("open", **wrong):
        pass


def test_an_errno_may_be_given_by_its_name(tmp_path: Path) -> None:
    with inject("fsync", errno="ENOSPC"), pytest.raises(OSError, match="No space left") as caught:
        sucrose.save({"value": 1}, tmp_path / "a.pt")
    assert caught.value.errno == errno.ENOSPC
    for unknown in ("ENOSUCH", "28", "errorcode"):
        with pytest.raises(ValueError, match="a number or a name of the module errno"), inject("open", errno=unknown):
            pass


def test_sites_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="no fault site 'nowhere'"), inject("nowhere"):
        pass
    with pytest.raises(ValueError, match="no fault site 'nowhere'"), kill("nowhere"):
        pass

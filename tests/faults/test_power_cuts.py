"""A power cut at each point of each way of saving: see `sucrose.testing.crash` for what it may leave (F6 to F9).

Before a save has returned the old value or the new one is found, whole; after it the new one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from saves import SAVES, Save, state, value_in

from sucrose import Snapshot
from sucrose.errors import CorruptionError, SucroseError
from sucrose.testing import crash, inject

if TYPE_CHECKING:
    from pathlib import Path

SAVED = "saved"


def recorded(save: Save, folder: Path, *, old: int) -> crash.Trace:
    """The trace of a save that takes the place of `old`, unless that is 0."""
    folder.mkdir(exist_ok=True)
    for value in range(1, old + 1):
        save.save(folder, value)
    with crash.record(folder) as recording:
        save.save(folder, old + 1)
        recording.mark(SAVED)
    return recording.trace


def check(save: Save, cut: crash.CrashState, folder: Path, *, old: int) -> None:
    """What is found after a restart, where the folder has its old name again."""
    try:
        found = save.found(folder)
    except Exception as error:
        raise AssertionError(f"{error!r} after {cut}") from error
    allowed = {old + 1} if SAVED in cut.marks else {old + 1, old or None}
    assert found in allowed, f"found {found} after {cut}"


def check_all(save: Save, trace: crash.Trace, folder: Path, *, old: int, seed: int, per_point: int) -> int:
    count = 0
    folder.mkdir(exist_ok=True)
    for cut in crash.states(trace, folder, seed=seed, per_point=per_point):
        check(save, cut, folder / cut.folder, old=old)
        count += 1
    return count


@pytest.mark.parametrize("old", [0, 2], ids=["first", "over an old one"])
@pytest.mark.parametrize("save", SAVES, ids=str)
def test_a_power_cut_at_any_point_leaves_the_old_value_or_the_new_one(
    save: Save, old: int, each_backend: str, tmp_path: Path, quick_path: Path
) -> None:
    trace = recorded(save, tmp_path / "recorded", old=old)
    seed = SAVES.index(save) * 10 + ["io_uring", "threads", "reference"].index(each_backend)
    count = check_all(save, trace, quick_path / "states", old=old, seed=seed, per_point=1)
    assert count >= 5


@pytest.mark.large
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("old", [0, 2], ids=["first", "over an old one"])
@pytest.mark.parametrize("save", SAVES, ids=str)
@pytest.mark.usefixtures("each_backend")
def test_many_power_cuts_at_any_point_leave_the_old_value_or_the_new_one(
    save: Save, old: int, seed: int, tmp_path: Path, quick_path: Path
) -> None:
    trace = recorded(save, tmp_path / "recorded", old=old)
    check_all(save, trace, quick_path / "states", old=old, seed=seed, per_point=64)


@pytest.mark.usefixtures("each_backend")
def test_a_snapshot_whose_name_is_there_and_its_data_not_is_found_out(tmp_path: Path) -> None:
    """Nothing is fsynced here, so that the rename may reach the disk before the data."""
    with crash.record(tmp_path) as recording:
        Snapshot.take(tmp_path / "s", state(1), durable=False)
    seen = set()
    (tmp_path / "states").mkdir()
    for cut in crash.states(recording.trace, tmp_path / "states", seed=3, per_point=8):
        try:
            found = value_in(Snapshot(f"{cut.folder}/s"))
        except (SucroseError, FileNotFoundError) as error:
            seen.add(type(error))
        else:
            assert found == 1, cut
            seen.add(int)
    assert CorruptionError in seen
    assert int in seen


@pytest.mark.usefixtures("each_backend")
def test_after_an_fsync_that_failed_once_a_power_cut_finds_the_old_value(tmp_path: Path, quick_path: Path) -> None:
    """The fsync is not called again and believed: the save fails, and the next one writes everything anew (F10)."""
    save = next(save for save in SAVES if save.name == "take over an old one")
    folder = tmp_path / "recorded"
    folder.mkdir()
    save.save(folder, 1)
    with crash.record(folder) as recording:
        with inject("fsync", nth=2), pytest.raises(OSError, match="failed"):
            save.save(folder, 2)
        recording.mark("failed")
        save.save(folder, 3)
        recording.mark(SAVED)
    for cut in crash.states(recording.trace, quick_path, seed=1, per_point=2):
        found = save.found(quick_path / cut.folder)
        allowed = {3} if SAVED in cut.marks else {1, 3} if "failed" in cut.marks else {1}
        assert found in allowed, f"found {found} after {cut}"

"""Which checkpoints of a scenario stay: beside a model, after going back, and after crashes."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from scenario_checkpoints import contents_of, names_in, record_of, value_of

from sucrose import Retention
from sucrose.scenarios.checkpoints import CheckpointFolder, list_checkpoints
from sucrose.storage import leases
from sucrose.storage.leases import lease

EXTENSIONS = [".pt", ".snapshot"]


class Epochs(RuleBasedStateMachine):
    """`metrics` has the loss of every epoch that must be there, `mid` the number of the one in the middle, if any."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(tempfile.mkdtemp())
        self.metrics: dict[int, float] = {}
        self.mid: int | None = None
        self.epoch = 0
        self.superseded = 0

    @initialize(
        extension=st.sampled_from(EXTENSIONS),
        last=st.none() | st.integers(1, 3),
        every=st.none() | st.integers(2, 4),
        best=st.none() | st.tuples(st.just("loss"), st.integers(1, 2), st.sampled_from(["min", "max"])),
    )
    def start(self, extension: str, last: int | None, every: int | None, best: tuple[str, int, str] | None) -> None:
        self.keep = Retention(keep_last=last, keep_every=every, keep_best=best)
        self.names = names_in(self.path, extension)
        self.restart()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.wait()
        shutil.rmtree(self.path)

    @rule()
    def restart(self) -> None:
        if hasattr(self, "folder"):
            self.folder.wait()
        self.folder = CheckpointFolder(self.names, self.keep)

    @rule(loss=st.sampled_from([0.0, 1.0, 2.0, math.nan, math.inf]))
    def finish_an_epoch(self, loss: float) -> None:
        self.epoch += 1
        self.folder.write(contents_of(self.epoch), record_of(self.epoch, metrics={"loss": loss}))
        self.metrics[self.epoch] = loss
        self.mid = None
        self.metrics = {epoch: self.metrics[epoch] for epoch in self.expected()}

    @rule()
    def stop_in_the_middle(self) -> None:
        self.folder.write(contents_of(self.epoch + 0.5), record_of(self.epoch, is_mid_epoch=True))
        self.mid = self.epoch

    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        if self.metrics:
            epoch = data.draw(st.sampled_from(sorted(self.metrics)))
            loaded = self.folder.read(epoch)
            assert loaded is not None
            assert value_of(loaded.contents) == epoch
            self.folder.set_aside_after(epoch)
            later = [number for number in self.metrics if number > epoch]
            self.superseded += bool(later or self.mid is not None)
            self.epoch, self.mid = epoch, None
            self.metrics = {number: loss for number, loss in self.metrics.items() if number <= epoch}

    def expected(self) -> set[int]:
        """Those of `metrics` that the rules keep."""
        last, every, best = self.keep.keep_last, self.keep.keep_every, self.keep.keep_best
        if last is None and every is None and best is None:
            return set(self.metrics)
        newest_first = sorted(self.metrics, reverse=True)
        kept = set(newest_first[: last or 1])
        if every is not None:
            kept |= {epoch for epoch in self.metrics if epoch % every == 0}
        if best is not None:
            _, count, mode = best
            sign = -1 if mode == "max" else 1
            rated = [epoch for epoch in newest_first if not math.isnan(self.metrics[epoch])]
            kept |= set(sorted(rated, key=lambda epoch: sign * self.metrics[epoch])[:count])
        return kept

    @invariant()
    def what_is_there_is_what_the_rules_keep(self) -> None:
        if not hasattr(self, "folder"):
            return
        self.folder.wait()
        assert self.names.epochs() == sorted(self.metrics)
        assert self.names.mid_epochs() == ([] if self.mid is None else [self.mid])
        hidden = [name for name in os.listdir(self.path) if name.startswith(".")]
        assert hidden == []
        assert len(list(self.path.glob("superseded-*"))) == self.superseded
        loaded = self.folder.read()
        if loaded is None:
            assert self.epoch == 0
            assert self.mid is None
        else:
            assert value_of(loaded.contents) == self.epoch + (0 if self.mid is None else 0.5)


Epochs.TestCase.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
test_epochs_beside_a_model = Epochs.TestCase


def test_files_of_others_are_not_removed(tmp_path: Path) -> None:
    names = names_in(tmp_path)
    folder = CheckpointFolder(names, Retention(keep_last=1))
    torch.save(contents_of(1.0), names.path_of(1))
    (tmp_path / "base_case1_e2.pt").write_bytes(b"no checkpoint")
    (tmp_path / "base_case10_e2.pt").touch()
    (tmp_path / ".base_case1_e7.pt.tmp-nobody-knows").touch()
    (tmp_path / "base_case1_e500.pt.tmp").touch()
    for epoch in (3, 4, 5):
        folder.write(contents_of(epoch), record_of(epoch))
    assert sorted(os.listdir(tmp_path)) == [
        ".base_case1_e7.pt.tmp-nobody-knows",
        "base_case10_e2.pt",
        "base_case1_e1.pt",
        "base_case1_e2.pt",
        "base_case1_e5.pt",
        "base_case1_e500.pt.tmp",
    ]


def test_a_damaged_epoch_is_no_reason_to_remove_a_sound_one(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention(keep_last=2))
    for epoch in (1, 2):
        folder.write(contents_of(epoch), record_of(epoch))
    os.truncate(folder.names.path_of(2), 1000)
    folder.write(contents_of(3.0), record_of(3))
    assert folder.names.epochs() == [1, 2, 3]
    folder.write(contents_of(4.0), record_of(4))
    assert folder.names.epochs() == [2, 3, 4]


def test_an_older_epoch_that_is_written_again_is_not_removed_at_once(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention(keep_last=2))
    for epoch in (5, 6, 7, 1):
        folder.write(contents_of(epoch), record_of(epoch))
    assert folder.names.epochs() == [1, 6, 7]


def test_a_snapshot_that_is_being_read_is_removed_later(tmp_path: Path) -> None:
    folder = CheckpointFolder(names_in(tmp_path, ".snapshot"), Retention(keep_last=1))
    folder.write(contents_of(1.0), record_of(1))
    folder.wait()
    reading = lease(folder.names.path_of(1))
    assert reading is not None
    with reading:
        folder.write(contents_of(2.0), record_of(2))
        folder.wait()
        assert folder.names.epochs() == [1, 2]
    folder.write(contents_of(3.0), record_of(3))
    folder.wait()
    assert folder.names.epochs() == [3]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_a_dead_writer_has_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path, extension: str
) -> None:
    dead, alive = (tmp_path / f".base_case1_e9{extension}.tmp-{digit * 32}" for digit in "ab")
    for path in (dead, alive):
        path.mkdir()
        (path / "file").write_bytes(b"half of it")
    folder = CheckpointFolder(names_in(tmp_path, extension), Retention())
    writing = lease(str(alive))
    assert writing is not None
    with writing:
        folder.write(contents_of(1.0), record_of(1))
        folder.wait()
    assert (dead.exists(), alive.exists()) == (False, True)


def test_without_locks_nobody_knows_who_is_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    perhaps_dead = tmp_path / f".base_case1_e9.pt.tmp-{'a' * 32}"
    perhaps_dead.mkdir()
    monkeypatch.setattr(leases, "_try_lock", lambda *_: False)
    CheckpointFolder(names_in(tmp_path), Retention()).write(contents_of(1.0), record_of(1))
    assert sorted(os.listdir(tmp_path)) == [perhaps_dead.name, "base_case1_e1.pt"]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_going_back_moves_the_other_branch_away_and_says_so(
    tmp_path: Path, extension: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(names_in(tmp_path, extension), Retention())
    for epoch in (1, 2, 3):
        folder.write(contents_of(epoch), record_of(epoch))
    folder.write(contents_of(3.5), record_of(3, is_mid_epoch=True))
    folder.set_aside_after(3)
    assert folder.names.mid_epochs() == []
    folder.set_aside_after(1)
    assert "superseded-2" in caplog.text
    assert f"base_case1_e2{extension}, base_case1_e3{extension}" in caplog.text
    folder.write(contents_of(20.0), record_of(2))
    loaded = folder.read()
    assert loaded is not None
    assert value_of(loaded.contents) == 20.0
    assert folder.names.epochs() == [1, 2]
    moved = CheckpointFolder(names_in(tmp_path / "superseded-2", extension), Retention()).read()
    assert moved is not None
    assert value_of(moved.contents) == 3.0
    caplog.clear()
    folder.set_aside_after(2)
    assert caplog.text == ""
    assert not (tmp_path / "superseded-3").exists()


def test_a_crash_while_going_back_leaves_the_newest_of_the_old_branch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = CheckpointFolder(names_in(tmp_path), Retention())
    for epoch in range(1, 6):
        folder.write(contents_of(epoch), record_of(epoch))
    moves = 0
    rename = os.rename

    def crash_in_the_middle(source: str, target: str) -> None:
        nonlocal moves
        moves += 1
        if moves == 3:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patches:
        patches.setattr(os, "rename", crash_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            folder.set_aside_after(1)
    loaded = folder.read()
    assert loaded is not None
    assert value_of(loaded.contents) == 5.0
    folder.set_aside_after(1)
    assert folder.names.epochs() == [1]
    assert [info.epoch for info in list_checkpoints(names_in(tmp_path / "superseded-2"))] == [4, 5]

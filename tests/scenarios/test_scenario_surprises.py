"""Calls in an order that a program may well have: what is finished is not lost, and what is said is true."""

from __future__ import annotations

import errno
import gc
import logging
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import sucrose
from sucrose.errors import StateMismatchError
from sucrose.post import LogDataFrame
from sucrose.scenarios import opened
from sucrose.scenarios.checkpoints import folder as folder_module


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "config.yaml").write_text("base: {}\nworkspace: {keep: {best: {metric: loss}, every: 1}}\n")
    yield tmp_path
    for scenario in [*opened._OPEN.values()]:
        scenario.close()


def model_of(value: float) -> torch.nn.Linear:
    model = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(model.weight, value)
    return model


def weight(model: torch.nn.Linear) -> float:
    return float(model.weight[0, 0].detach())


def epochs(workspace: Path) -> list[int]:
    return sucrose.Scenario(workspace, "base").workspace.checkpoint_names("base").epochs()


def test_loading_finds_an_epoch_that_had_no_file_yet(workspace: Path) -> None:
    ssc = sucrose.scenario(workspace, "base")
    for epoch in ssc.epoch_range(5):
        ssc.save_state_dict(2, model=model_of(epoch))
    model = model_of(0)
    ssc.load_state_dict(model=model)
    assert (weight(model), ssc.epoch) == (5, 5)


def test_looking_at_the_best_at_the_end_takes_no_epoch_and_no_curve_away(workspace: Path) -> None:
    with sucrose.Scenario(workspace, "base") as ssc:
        for epoch in ssc.epoch_range(5):
            ssc.step()
            ssc.log({"loss": abs(epoch - 2.0)})
            ssc.save_state_dict(10, model=model_of(epoch)) if epoch == 5 else ssc.save_state_dict(model=model_of(epoch))
        model = model_of(0)
        ssc.load_state_dict("best", model=model)
        ssc.log({"test": 1.0})
        assert weight(model) == 2
    assert epochs(workspace) == [1, 2, 3, 4, 5]
    with sucrose.Scenario(workspace, "base") as ssc:  # another program, to evaluate it
        ssc.load_state_dict("best", model=model)
        ssc.log({"test": 2.0})
    frame = LogDataFrame(workspace, runs=["base"], tags=["loss"]).load()
    assert list(frame.index) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("has_range", [True, False], ids=["in a loop", "by steps"])
def test_curves_go_back_when_training_goes_on_from_an_earlier_epoch(workspace: Path, has_range: bool) -> None:
    with sucrose.Scenario(workspace, "base") as ssc:
        for epoch in ssc.epoch_range(5):
            ssc.step()
            ssc.log({"loss": epoch})
            ssc.save_state_dict(model=model_of(epoch))
    with sucrose.Scenario(workspace, "base") as ssc:
        ssc.start_pytorch_tensorboard()
        ssc.load_state_dict(2, model=model_of(0))
        for epoch in ssc.epoch_range(1) if has_range else [3]:
            ssc.step()
            ssc.log({"loss": -epoch})
            ssc.save_state_dict(model=model_of(epoch))
    frame = LogDataFrame(workspace, runs=["base"], tags=["loss"]).load()
    assert list(zip(frame.index, frame["value"], strict=True)) == [(1, 1), (2, 2), (3, -3)]


def test_what_was_loaded_does_not_stay_in_memory(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sucrose.Scenario(workspace, "base") as ssc:
        ssc.save_state_dict(model=model_of(1))
    storages: list[weakref.ref[Any]] = []
    load_state_dict = torch.nn.Module.load_state_dict

    def note(self: torch.nn.Module, state: Any, *rest: Any) -> Any:
        storages.append(weakref.ref(state["weight"]))
        return load_state_dict(self, state, *rest)

    monkeypatch.setattr(torch.nn.Module, "load_state_dict", note)
    ssc = sucrose.scenario(workspace, "base")
    ssc.load_state_dict(model=model_of(0))
    gc.collect()
    assert [one() for one in storages] == [None]


@pytest.fixture
def nothing_allowed() -> Iterator[None]:
    """What the program has allowed torch to unpickle counts for the whole process, and so for all tests in it."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    yield
    torch.serialization.add_safe_globals(allowed)


@pytest.mark.usefixtures("nothing_allowed")
@pytest.mark.parametrize("value", [np.float64(0.5), range(3), [{"seen": frozenset({1})}]])
def test_what_will_not_load_by_default_is_said_when_it_is_saved(
    workspace: Path, caplog: pytest.LogCaptureFixture, value: object
) -> None:
    with sucrose.Scenario(workspace, "base") as ssc, caplog.at_level(logging.WARNING):
        for _ in ssc.epoch_range(2):
            ssc.save_state_dict(model=model_of(1), notes=value, best=0.5)
    assert caplog.text.count("weights_only, which is the default, refuses 'notes'") == 1
    caplog.clear()
    with sucrose.Scenario(workspace, "base") as ssc, caplog.at_level(logging.WARNING):
        left = ssc.load_state_dict(model=model_of(1), loader_kwds={"weights_only": False})
        assert left == {"notes": value, "best": 0.5}
        ssc.save_state_dict(model=model_of(1), notes=value)
    assert "weights_only" not in caplog.text


def test_a_tracked_loader_may_be_named_in_each_call_as_well(workspace: Path) -> None:
    loader = DataLoader(torch.arange(8.0), shuffle=True)  # type: ignore[arg-type,var-annotated]
    with sucrose.Scenario(workspace, "base") as ssc:
        ssc.track(loader=loader)
        ssc.load_state_dict(loader=loader)
        batches = iter(loader)
        next(batches)
        ssc.save_state_dict(loader=loader)
        expected = list(batches)
    loader = DataLoader(torch.arange(8.0), shuffle=True)  # type: ignore[arg-type]
    with sucrose.Scenario(workspace, "base") as ssc:
        assert ssc.track(loader=loader) is loader
        ssc.load_state_dict(loader=loader)
        assert list(loader) == expected


def test_asking_whether_an_epoch_is_among_the_next_ones_begins_none(workspace: Path) -> None:
    with sucrose.Scenario(workspace, "base") as ssc:
        ssc.save_state_dict(model=model_of(1))
        expected = torch.rand(1)
    with sucrose.Scenario(workspace, "base") as ssc:
        ssc.load_state_dict(model=model_of(1))
        coming = ssc.epoch_range(3)
        assert 2 in coming
        assert 9 not in coming
        torch.rand(5)
        for _ in coming:
            assert torch.equal(torch.rand(1), expected)
            break


def test_generators_are_set_at_the_first_epoch_after_a_load_and_at_no_later_one(workspace: Path) -> None:
    ssc = sucrose.scenario(workspace, "base")
    model = model_of(1)
    for epoch in ssc.epoch_range(2):
        ssc.save_state_dict(model=model)
        if epoch == 1:
            ssc.load_state_dict(model=model)  # as after a loss that is NaN
            drawn = torch.rand(1)
    for _ in ssc.epoch_range(1):
        assert not torch.equal(torch.rand(1), drawn)


def test_a_program_that_begins_anew_beside_old_checkpoints_is_told(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sucrose.Scenario(workspace, "base") as ssc:
        ssc.save_state_dict(model=model_of(1))
    assert "loaded none" not in caplog.text
    with sucrose.Scenario(workspace, "base") as ssc:
        for _ in ssc.epoch_range(2):
            ssc.save_state_dict(model=model_of(1))
    assert caplog.text.count("has loaded none: it calls what it has made epoch 2") == 1


def test_a_name_too_long_for_files_is_refused_at_the_start(workspace: Path) -> None:
    name = "base/" + "/".join(["x" * 60] * 4)
    with pytest.raises(ValueError, match="too long"):
        sucrose.Scenario(workspace, name)


def test_steps_that_are_no_number_are_refused_before_anything_is_loaded(workspace: Path) -> None:
    folder = workspace / "ckpts/base"
    folder.mkdir(parents=True)
    torch.save({"model": model_of(6).state_dict(), "step": [1, 2]}, folder / "base_e9.pt")
    model = model_of(0)
    ssc = sucrose.scenario(workspace, "base")
    with pytest.raises(StateMismatchError, match="step_key") as caught:
        ssc.load_state_dict(model=model)
    assert (caught.value.key, weight(model)) == ("step", 0)
    assert ssc.load_state_dict(model=model, load_step=False) == {"step": [1, 2]}


def test_a_signal_in_the_middle_of_a_write_has_the_epoch_written_once_more_and_not_again_at_the_end(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    write = folder_module.write_file

    def interrupted(path: str, *rest: Any) -> None:
        written.append(path)
        if len(written) == 1:
            ssc.save_before_end(at_boundary=False)  # as the handler of SIGTERM does
            raise SystemExit(143)
        write(path, *rest)

    monkeypatch.setattr(folder_module, "write_file", interrupted)
    ssc = sucrose.scenario(workspace, "base")
    with pytest.raises(SystemExit):
        ssc.save_state_dict(model=model_of(1))
    ssc.close()
    assert [Path(path).name for path in written] == ["base_e1.pt"] * 2


def test_after_a_snapshot_that_failed_in_the_background_the_last_epoch_is_written(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "config.yaml").write_text("base: {}\nworkspace: {ckpts_extension: .snapshot}\n")

    class Failed:
        path = "nowhere"

        def done(self) -> bool:
            return True

        def wait(self) -> None:
            raise OSError(errno.EIO, "Input/output error")

    ssc = sucrose.scenario(workspace, "base")
    begin = folder_module.begin_snapshot
    monkeypatch.setattr(folder_module, "begin_snapshot", lambda *_, **__: Failed())
    ssc.save_state_dict(model=model_of(1))
    monkeypatch.setattr(folder_module, "begin_snapshot", begin)
    with pytest.raises(OSError, match="Input/output error"):
        ssc.save_state_dict(model=model_of(2))
    assert ssc.epoch == 1
    ssc.close()
    model = model_of(0)
    sucrose.scenario(workspace, "base").load_state_dict(model=model)
    assert weight(model) == 2


def test_at_the_end_an_earlier_failure_in_the_background_is_told_and_the_epoch_is_written(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / "config.yaml").write_text("base: {}\nworkspace: {ckpts_extension: .snapshot}\n")

    class Failing:
        path = "nowhere"

        def done(self) -> bool:
            return False  # until somebody waits

        def wait(self) -> None:
            raise OSError(errno.EIO, "Input/output error")

    ssc = sucrose.scenario(workspace, "base")
    begin = folder_module.begin_snapshot
    monkeypatch.setattr(folder_module, "begin_snapshot", lambda *_, **__: Failing())
    ssc.save_state_dict(model=model_of(1))
    monkeypatch.setattr(folder_module, "begin_snapshot", begin)
    ssc.save_state_dict(10, model=model_of(2))
    with pytest.raises(OSError, match="Input/output error"):
        ssc.close()
    ssc.close()
    assert epochs(workspace) == [2]


def test_one_that_cannot_be_closed_stays_the_open_one(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssc = sucrose.scenario(workspace, "base")
    ssc.save_state_dict(10, model=model_of(1))

    def full(path: str, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "write_file", full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                sucrose.scenario(workspace, "base")
    assert sucrose.scenario(workspace, "base").epoch == 1
    with pytest.raises(RuntimeError, match="closed"):
        ssc.save_state_dict(model=model_of(2))


def test_a_program_that_writes_into_the_scenario_of_another_is_told_once(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sucrose.Scenario(workspace, "base") as ssc:
        ssc.save_state_dict(model=model_of(1))
        program = f"""
import sucrose
ssc = sucrose.scenario({os.fspath(workspace)!r}, "base")
for number in range(2):
    ssc.save_state_dict(best=number)
"""
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert other.stderr.count("another program writes checkpoints") == 1
        ssc.save_state_dict(model=model_of(2))
    with sucrose.Scenario(workspace, "base") as ssc:
        ssc.load_state_dict()
        ssc.save_state_dict(model=model_of(3))
    assert "another program" not in caplog.text  # the one that came later is told


def test_a_forked_child_says_nothing_about_the_scenarios_of_its_parent(workspace: Path) -> None:
    (workspace / "config.yaml").write_text("base: {optim.lr: 1}\n")
    program = f"""
import os, sucrose
ssc = sucrose.scenario({os.fspath(workspace)!r}, "base")
ssc.save_state_dict(best=1)
child = os.fork()
if child:
    os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.count("optim.lr") == 1


def test_a_process_that_learns_its_rank_after_the_start_writes_no_files(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssc = sucrose.scenario(workspace, "base")
    monkeypatch.setenv("RANK", "1")  # as init_process_group would set it
    ssc.log({"loss": 1.0})
    ssc.save_state_dict(model=model_of(1))
    ssc.close()
    assert not (workspace / "ckpts").exists()
    assert not (workspace / "logs").exists()

"""What `collect_runs` tells of the scenarios of a workspace."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from scenario_files import CONFIG, FIELDS, log, make_workspace, save, saved_ns
from torch.utils.tensorboard import SummaryWriter

import sucrose
from sucrose.overview.comparing import compare
from sucrose.overview.report import render_report
from sucrose.overview.runs import RunSummary, collect_runs
from sucrose.scenarios.workspace import Workspace
from sucrose.storage.leases import lease

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "workspace")


def run_of(workspace: Workspace, name: str = "base/case1", **options: Any) -> RunSummary:
    (run,) = [run for run in collect_runs(workspace, **options) if run.scenario == name]
    return run


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_every_domain_is_a_scenario_that_may_not_have_been_started(workspace: Workspace) -> None:
    runs = collect_runs(workspace)
    assert [run.scenario for run in runs] == ["base", "base/case1", "base/case2"]
    for run in runs:
        assert (run.resumable, run.reason) == (False, "not started")
        assert (run.epochs, run.steps, run.nbytes, run.saved_ns, run.started_ns) == (0, None, 0, None, None)
        assert (run.n_checkpoints, dict(run.metrics), run.overrides, run.n_config_differences) == (0, {}, (), None)


def test_a_run_is_where_its_newest_checkpoint_is(workspace: Workspace) -> None:
    paths = [save(workspace, "base/case1", epoch, metrics={"loss": 1 / epoch}) for epoch in (2, 9, 10)]
    run = run_of(workspace)
    assert (run.resumable, run.reason) == (True, "")
    assert (run.epochs, run.steps, run.saved_ns) == (10, 1000, saved_ns(10))
    assert dict(run.metrics) == {"loss": 0.1}
    assert (run.n_checkpoints, run.n_config_differences) == (3, 0)
    assert run.checkpoints_nbytes == run.nbytes == sum(path.stat().st_size for path in paths)


def test_what_is_not_a_checkpoint_by_its_whole_name_is_none(workspace: Workspace) -> None:
    path = save(workspace, "base/case1", 3)
    for name in ("base_case1_e500.pt.tmp", "base_case1_e4.pt~", "other_e7.pt", "base_case1_e05.pt"):
        (path.parent / name).write_bytes(b"?" * 10)
    run = run_of(workspace)
    assert (run.epochs, run.n_checkpoints) == (3, 1)
    assert run.nbytes == run.checkpoints_nbytes + 40


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_counts(workspace: Workspace) -> None:
    sound, damaged = (save(workspace, "base/case1", epoch) for epoch in (11, 12))
    cut(damaged)
    run = run_of(workspace)
    assert (run.resumable, run.epochs, run.steps, run.saved_ns) == (True, 11, 1100, saved_ns(11))
    assert run.reason.startswith("base_case1_e12.pt")
    assert run.reason.endswith("; resumes after epoch 11")
    assert str(workspace.work_dir) not in run.reason
    assert run.n_checkpoints == 2
    assert sorted(sound.parent.iterdir()) == sorted([sound, damaged])  # looking moves nothing


def test_where_every_checkpoint_is_damaged_nothing_is_resumed(workspace: Workspace) -> None:
    for epoch in (1, 2):
        cut(save(workspace, "base/case1", epoch))
    run = run_of(workspace)
    assert (run.resumable, run.epochs, run.steps, run.saved_ns) == (False, 0, None, None)
    assert "base_case1_e2.pt" in run.reason
    assert "base_case1_e1.pt" in run.reason


def test_a_checkpoint_of_a_newer_release_is_not_passed_over(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, CONFIG + "workspace: {ckpts_extension: .snapshot}\n")
    save(workspace, "base/case1", 1)
    newer = save(workspace, "base/case1", 2)
    assert run_of(workspace).epochs == 2
    metadata = newer / ".snapshot_index"
    rewrite_version(metadata)
    run = run_of(workspace)
    assert (run.resumable, run.epochs) == (False, 0)
    assert "newer torch-sucrose" in run.reason


def rewrite_version(index: Path) -> None:
    from xxhash import xxh3_128_hexdigest

    line = b'{"format_version":99}'
    index.write_bytes(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n")


def test_a_run_that_ended_in_the_middle_of_an_epoch_goes_on_there(workspace: Workspace) -> None:
    save(workspace, "base/case1", 13)
    save(workspace, "base/case1", 13, is_mid_epoch=True)
    run = run_of(workspace)
    assert (run.resumable, run.reason) == (True, "resumes in the middle of epoch 14")
    assert (run.epochs, run.steps, run.n_checkpoints) == (13, 1350, 2)


@pytest.mark.parametrize(
    ("policy", "resumable", "reason"),
    [
        ("warn", True, "config differs in optim.lr: 0.1 -> 0.01"),
        ("ignore", True, ""),
        ("refuse", False, "config refuses optim.lr: 0.1 -> 0.01"),
    ],
)
def test_a_changed_configuration_is_judged_by_the_workspaces_policy(
    tmp_path: Path, policy: str, resumable: bool, reason: str
) -> None:
    workspace = make_workspace(tmp_path, f"{CONFIG}workspace: {{on_config_change: {policy}}}\n")
    save(workspace, "base/case1", 1, config=FIELDS["base"])
    run = run_of(workspace)
    assert (run.resumable, run.n_config_differences) == (resumable, 1)
    assert run.reason == reason


def test_many_differences_are_counted_and_a_few_are_named(workspace: Workspace) -> None:
    save(
        workspace, "base/case1", 1, config={**FIELDS["base/case1"], **{f"old.{number}": number for number in range(9)}}
    )
    run = run_of(workspace)
    assert run.n_config_differences == 9
    assert run.reason.count("old.") == 3
    assert run.reason.endswith("and 6 more")


def test_overrides_of_a_run_are_shown_and_are_no_differences(workspace: Workspace) -> None:
    save(workspace, "base/case1", 1, config={**FIELDS["base/case1"], "optim.lr": 0.5}, overrides=("optim.lr=0.5",))
    run = run_of(workspace)
    assert run.overrides == ("optim.lr=0.5",)
    assert (run.resumable, run.reason, run.n_config_differences) == (True, "", 0)


def test_a_run_whose_domain_is_gone_does_not_go_on(workspace: Workspace, tmp_path: Path) -> None:
    save(workspace, "base/case1", 1)
    run = run_of(make_workspace(tmp_path / "workspace", "other: {optim.lr: 1}\n"))
    assert (run.resumable, run.epochs, run.n_config_differences) == (False, 1, None)
    assert "base/case1" in run.reason
    assert "config.yaml" in run.reason


def test_a_run_with_logs_alone_has_no_checkpoint_yet(workspace: Workspace) -> None:
    path = log(workspace, "base/case1", "loss", {1: 0.5, 2: 0.25})
    run = run_of(workspace)
    assert (run.resumable, run.reason) == (False, "no checkpoint yet")
    assert dict(run.metrics) == {"loss": 0.25}
    assert run.logs_nbytes == run.nbytes == path.stat().st_size
    assert run.started_ns is not None
    assert abs(run.started_ns - path.stat().st_mtime_ns) < 3600 * 10**9


def test_the_metrics_of_a_checkpoint_come_before_those_in_the_logs(workspace: Workspace) -> None:
    log(workspace, "base/case1", "loss", {1: 0.5, 2: 0.25})
    save(workspace, "base/case1", 1)
    assert dict(run_of(workspace).metrics) == {"loss": 0.25}
    save(workspace, "base/case1", 2, metrics={"accuracy": math.nan})
    assert [*run_of(workspace).metrics] == ["accuracy"]


def test_checkpoints_of_torch_save_tell_their_steps_only_when_asked(workspace: Workspace) -> None:
    path = save(workspace, "base/case1", 1).with_name("base_case1_e4.pt")
    torch.save({"model": torch.zeros(3), "step": 77}, path)
    run = run_of(workspace)
    assert (run.resumable, run.epochs, run.steps, run.n_config_differences) == (True, 4, None, None)
    assert run.saved_ns == path.stat().st_mtime_ns
    assert run_of(workspace, read_steps=True).steps == 77


@pytest.mark.parametrize("contents", [[1, 2], {"step": "many"}, {}, {"step": 3, "odd": print}], ids=str)
def test_a_strange_file_of_torch_save_hides_no_run(workspace: Workspace, contents: Any) -> None:
    path = save(workspace, "base/case1", 1).with_name("base_case1_e4.pt")
    torch.save(contents, path)
    run = run_of(workspace, read_steps=True)
    assert (run.epochs, run.steps) == (4, None)


def test_sizes_have_what_was_set_aside_and_not_what_belongs_to_other_scenarios(
    workspace: Workspace, files_below: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    own = save(workspace, "base", 1)
    inner = save(workspace, "base/case1", 1)
    for folder in ("quarantine", "superseded-1"):
        (own.parent / folder).mkdir()
        (own.parent / folder / "base_e5.pt").write_bytes(bytes(1000))
    log(workspace, "base", "loss", {1: 0.5})
    log(workspace, "base/case1", "loss", {1: 0.5})
    logs = tmp_path / "workspace" / "logs"
    (logs / "base" / "superseded-1").mkdir()
    (logs / "base" / "superseded-1" / "old").write_bytes(bytes(500))
    outer, within = run_of(workspace, "base"), run_of(workspace, "base/case1")
    assert outer.checkpoints_nbytes == own.stat().st_size
    assert outer.nbytes == outer.checkpoints_nbytes + outer.logs_nbytes + 2500
    assert within.checkpoints_nbytes == inner.stat().st_size
    files = files_below(tmp_path / "workspace")
    del files["config.yaml"]
    assert sum(run.nbytes for run in collect_runs(workspace)) == sum(map(len, files.values()))
    assert dict(outer.metrics) == {"loss": 0.5}


def test_a_file_with_two_names_takes_its_room_once(workspace: Workspace) -> None:
    path = save(workspace, "base/case1", 1)
    os.link(path, path.with_name("base_case1_e2.pt"))
    run = run_of(workspace)
    assert run.n_checkpoints == 2
    assert run.nbytes == path.stat().st_size


def test_snapshots_are_listed_as_files_are(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, CONFIG + "workspace: {ckpts_extension: .snapshot}\n")
    path = save(workspace, "base/case1", 7, metrics={"loss": 0.5})
    run = run_of(workspace, read_steps=True)
    assert (run.resumable, run.epochs, run.steps, dict(run.metrics)) == (True, 7, 700, {"loss": 0.5})
    assert (
        run.checkpoints_nbytes == run.nbytes == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    )


def test_checkpoints_that_cannot_be_read_hide_no_other_run(workspace: Workspace) -> None:
    save(workspace, "base/case2", 1)
    Path(workspace.ckpts_dir("base/case1")).write_text("no folder")
    runs = {run.scenario: run for run in collect_runs(workspace)}
    assert runs["base/case2"].resumable
    assert not runs["base/case1"].resumable
    assert "cannot be read" in runs["base/case1"].reason
    assert workspace.ckpts_dir("base/case1") in runs["base/case1"].reason
    assert "cannot be read" in render_report(workspace)


def test_checkpoints_and_logs_may_share_a_folder(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, CONFIG + "workspace: {ckpts_folder: runs, logs_folder: runs}\n")
    checkpoint = save(workspace, "base/case1", 1)
    events = log(workspace, "base/case1", "loss", {1: 0.5})
    run = run_of(workspace)
    assert (run.checkpoints_nbytes, run.logs_nbytes) == (checkpoint.stat().st_size, events.stat().st_size)
    assert run.nbytes == run.checkpoints_nbytes + run.logs_nbytes


def test_of_a_long_log_the_end_tells_the_last_values(workspace: Workspace) -> None:
    with SummaryWriter(workspace.logs_dir("base/case1")) as writer:
        for step in range(8000):
            writer.add_scalar("loss", 1 / (step + 1), step)
            writer.add_scalar("rate", step, step)
        writer.add_image("picture", torch.zeros(3, 300, 300), 8000)
    (path,) = Path(workspace.logs_dir("base/case1")).iterdir()
    assert path.stat().st_size > 512 << 10
    assert dict(run_of(workspace).metrics) == {"loss": pytest.approx(1 / 8000), "rate": 7999}
    path.write_bytes(path.read_bytes()[:600_011])  # as a writer that is at work leaves it
    metrics = run_of(workspace).metrics
    (row,) = [row for row in compare(workspace, "base/case1", "base").curves if row.tag == "rate"]
    assert row.curves[0] is not None
    assert metrics["rate"] == row.curves[0].last.value
    assert 0 < metrics["rate"] < 7999


def test_an_attempt_that_has_logged_nothing_yet_does_not_hide_the_one_before(workspace: Workspace) -> None:
    log(workspace, "base/case1", "loss", {1: 0.5, 2: 0.25})
    SummaryWriter(workspace.logs_dir("base/case1"), purge_step=2).close()
    assert dict(run_of(workspace).metrics) == {"loss": 0.25}


def test_a_run_whose_logs_are_being_written_is_running(workspace: Workspace) -> None:
    log(workspace, "base/case1", "loss", {1: 0.5})
    log(workspace, "base/case2", "loss", {1: 0.5})
    with lease(workspace.logs_dir("base/case1")):
        assert [run.scenario for run in collect_runs(workspace) if run.is_running] == ["base/case1"]
    assert not any(run.is_running for run in collect_runs(workspace))


def test_a_scenario_is_running_until_it_is_closed(workspace: Workspace) -> None:
    with sucrose.scenario(workspace.work_dir, "base/case1") as ssc:
        ssc.log({"loss": 0.5})
        assert run_of(workspace).is_running
    assert not run_of(workspace).is_running

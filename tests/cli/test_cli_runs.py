"""`sucrose runs` and `sucrose compare`, as people and scripts start them."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from command_line import CommandLine
from scenario_files import CONFIG, FIELDS, log, make_workspace, save

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sucrose.scenarios.workspace import Workspace

REPOSITORY = Path(__file__).parents[2]


COMMAND_LINE = CommandLine()


@pytest.fixture(scope="module", autouse=True)
def _command_line() -> Iterator[None]:
    yield
    COMMAND_LINE.close()


def run(*arguments: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in which torch is imported only where it is needed."""
    if "--read-steps" not in arguments:
        return COMMAND_LINE.run(*arguments, folder=folder)
    home = str(REPOSITORY / "no-such-home")
    paths = {"PYTHONPATH": str(REPOSITORY / "python"), "HOME": home, "MPLCONFIGDIR": str(folder or Path.cwd() / "none")}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sucrose", *map(str, arguments)],
        env={**os.environ, **paths},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "torch" in imported
    done.stderr = "\n".join(line for line in lines if not line.startswith("import time:"))
    return done


def succeed(*arguments: str | Path, folder: Path | None = None) -> str:
    done = run(*arguments, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def read(*arguments: str | Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(succeed(*arguments, "--json"), parse_constant=pytest.fail)
    return content


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path / "a workspace")
    save(workspace, "base/case1", 9, metrics={"loss": 0.5, "accuracy": math.nan})
    save(workspace, "base/case1", 10, metrics={"loss": 0.25, "accuracy": math.nan})
    save(workspace, "base/case2", 3, config={**FIELDS["base/case2"], "optim.lr": 0.5}, overrides=("optim.lr=0.5",))
    return workspace


def test_runs_shows_each_scenario_in_a_line(workspace: Workspace) -> None:
    head, *rows = succeed("runs", workspace.work_dir).splitlines()
    assert head.split() == ["scenario", "epochs", "steps", "metrics", "size", "saved", "overrides", "resumable"]
    base, case1, case2 = rows
    assert base.split() == ["base", "0", "-", "-", "0", "B", "-", "-", "no:", "not", "started"]
    assert case1.split()[:5] == ["base/case1", "10", "1000", "loss=0.25", "accuracy=nan"]
    assert case1.split()[-3:] == ["2023-11-15T08:13:20Z", "-", "yes"]
    assert case2.split()[-2:] == ["optim.lr=0.5", "yes"]


def test_runs_tells_programs_the_same(workspace: Workspace) -> None:
    content = read("runs", workspace.work_dir)
    assert content["work_dir"] == workspace.work_dir
    base, case1, case2 = content["runs"]
    assert (base["resumable"], base["reason"], base["steps"], base["saved"]) == (False, "not started", None, None)
    assert (case1["epochs"], case1["steps"], case1["resumable"], case1["reason"]) == (10, 1000, True, "")
    assert case1["metrics"] == {"loss": 0.25, "accuracy": "nan"}
    assert case1["n_checkpoints"] == 2
    assert case2["overrides"] == ["optim.lr=0.5"]


def test_runs_sorts_by_what_is_asked_for_and_what_lacks_it_comes_last(workspace: Workspace) -> None:
    save(workspace, "base", 1, metrics={"loss": 2.0})

    def order(*arguments: str) -> list[str]:
        return [run["scenario"] for run in read("runs", workspace.work_dir, *arguments)["runs"]]

    assert order("--sort", "epochs") == ["base", "base/case2", "base/case1"]
    assert order("--sort", "epochs", "--reverse") == ["base/case1", "base/case2", "base"]
    assert order("--sort", "loss") == ["base/case1", "base", "base/case2"]
    assert order("--sort", "loss", "--reverse") == ["base", "base/case1", "base/case2"]
    done = run("runs", workspace.work_dir, "--sort", "los")
    assert done.returncode == 2
    assert "accuracy, loss" in " ".join(done.stderr.replace("│", " ").split())


def test_runs_reads_the_steps_of_torch_saves_files_when_asked(workspace: Workspace) -> None:
    path = Path(workspace.checkpoint_names("base").path_of(2))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"step": 77}, path)
    assert read("runs", workspace.work_dir)["runs"][0]["steps"] is None
    assert read("runs", workspace.work_dir, "--read-steps")["runs"][0]["steps"] == 77


def test_runs_shows_names_that_would_move_the_cursor_as_they_are_written(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, CONFIG)
    save(workspace, "base", 1, metrics={"loss\x1b[2J\n": 1.0})
    text = succeed("runs", tmp_path)
    assert "\x1b" not in text
    assert r"loss\x1b[2J\n=1" in text
    assert len(text.splitlines()) == 4


def test_of_many_metrics_a_few_are_shown_and_that_which_is_sorted_by(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    save(workspace, "base", 1, metrics={f"metric/{number}": 1.0 for number in range(100)})
    row = succeed("runs", tmp_path, "--sort", "metric/50").splitlines()[1]
    assert "metric/50=1 metric/0=1 " in row
    assert "(and 94 more)" in row
    assert len(read("runs", tmp_path)["runs"][0]["metrics"]) == 100


def test_a_folder_that_is_no_workspace_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        done = run("runs", folder)
        assert (done.returncode, done.stdout) == (1, "")
        assert "config.yaml" in done.stderr
        assert "Traceback" not in done.stderr


def test_compare_shows_what_differs_in_three_tables(workspace: Workspace) -> None:
    log(workspace, "base/case1", "loss", {1: 0.5, 2: 0.25})
    log(workspace, "base/case2", "loss", {1: 0.75, 2: 0.5})
    config, curves, checkpoints = succeed("compare", "-w", workspace.work_dir, "base/case1", "base/case2").split("\n\n")
    assert [line.split() for line in config.splitlines()] == [
        ["field", "base/case1", "base/case2"],
        ["model.dim", "8", "16"],
        ["optim.lr", "0.01", "0.1", "(in", "its", "checkpoint", "0.5)"],
        ["0", "fields", "are", "the", "same"],
    ]
    assert [line.split() for line in curves.splitlines()][1:] == [
        ["loss", "base/case1", "0.25", "2", "0.25", "2", "0.5", "1"],
        ["base/case2", "0.5", "2", "0.5", "2", "0.75", "1", "+0.25"],
    ]
    assert [line.split()[:3] for line in checkpoints.splitlines()] == [
        ["scenario", "epoch", "steps"],
        ["base/case1", "9", "900"],
        ["base/case1", "10", "1000"],
        ["base/case2", "3", "300"],
    ]


def test_compare_finds_the_workspace_from_a_folder_inside_of_it(workspace: Workspace, tmp_path: Path) -> None:
    inside = Path(workspace.ckpts_dir("base/case1"))
    text = succeed("compare", "base/case1", "base/case2", folder=inside)
    assert text == succeed("compare", "-w", workspace.work_dir, "base/case1", "base/case2")
    done = run("compare", "base/case1", "base/case2", folder=tmp_path)
    assert done.returncode == 1
    assert "no config.yaml in" in done.stderr
    assert "--workspace" in done.stderr


def test_compare_tells_programs_the_same(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, "one: {a: null, x: .nan}\nother: {b: text, x: 1}\n")
    log(workspace, "one", "loss", {1: 0.5, 2: math.inf})
    content = read("compare", "-w", tmp_path, "one", "other")
    assert content["scenarios"] == ["one", "other"]
    fields = {row["field"]: row["now"] for row in content["config"]}
    assert fields == {"a": [{"value": None}, {}], "b": [{}, {"value": "text"}], "x": [{"value": ".nan"}, {"value": 1}]}
    (row,) = content["curves"]
    assert row["curves"][0]["last"] == {"step": 2, "value": "inf"}
    assert row["curves"][0]["highest"] == {"step": 1, "value": 0.5}
    assert row["curves"][1] is None
    assert content["checkpoints"] == [[], []]


def test_compare_draws_the_curves(workspace: Workspace, tmp_path: Path) -> None:
    log(workspace, "base/case1", "loss", {1: 0.5, 2: 0.25})
    log(workspace, "base/case2", "loss", {1: 0.75, 2: 0.5})
    image = tmp_path / "curves.svg"
    done = run("compare", "-w", workspace.work_dir, "base/case1", "base/case2", "--plot", image, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "base/case2" in image.read_text()


def test_compare_needs_two_scenarios_that_are_there(workspace: Workspace) -> None:
    done = run("compare", "-w", workspace.work_dir, "base/case1")
    assert done.returncode == 2
    done = run("compare", "-w", workspace.work_dir, "base/case1", "base/cas2")
    assert done.returncode == 1
    assert "did you mean 'base/case2'" in done.stderr

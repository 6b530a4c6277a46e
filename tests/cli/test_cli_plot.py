"""`sucrose plot` and `sucrose report`, as people and scripts start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from command_line import CommandLine
from event_files import scalar, version, write_events

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON = Path(__file__).parents[2] / "python"
NAME = "events.out.tfevents.1000000000.host.1.0"


COMMAND_LINE = CommandLine("import pandas, matplotlib.figure, matplotlib.backends.backend_agg")


@pytest.fixture(scope="module", autouse=True)
def _command_line() -> Iterator[None]:
    yield
    COMMAND_LINE.close()


def run(cwd: Path, *arguments: str | Path, without: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own that has no display, no torch, and no module `without`."""
    if not without:
        return COMMAND_LINE.run(*arguments, folder=cwd)
    missing = ["torch", without]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r})); from sucrose.cli.program import main; main()"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "MPLBACKEND")}
    environment |= {"PYTHONPATH": str(PYTHON), "HOME": str(cwd / "no-such-home"), "MPLCONFIGDIR": str(cwd / ".mpl")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


def succeed(cwd: Path, *arguments: str | Path) -> str:
    done = run(cwd, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "config.yaml").write_text("base: {}\nbase/case1: {}\nnew: {}\n")
    for run_name in ("base", "base/case1", "base/case1/loss_train"):
        for attempt in (0, 1):
            steps = range(10 * attempt, 15 + 10 * attempt)
            events = [scalar(tag, step, 1 + step) for step in steps for tag in ("loss", "accuracy")]
            path = folder / "logs" / run_name / f"{NAME}.{attempt}"
            write_events(path, [version(1e9 + attempt), *events])
    return folder


def test_a_plot_has_a_panel_for_each_tag_and_attempts_joined(workspace: Path) -> None:
    content: dict[str, Any] = json.loads(succeed(workspace, "plot", ".", "--json", "--smoothing", "0.6"))
    assert content["output"] == str(workspace / "work.png")
    runs = {"base": 25, "base/case1": 25, "base/case1/loss_train": 25}
    assert content["panels"] == [{"tag": tag, "n_points": runs} for tag in ("accuracy", "loss")]
    assert (workspace / "work.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_shows_the_scenarios_and_tags_that_are_asked_for(workspace: Path) -> None:
    output = workspace / "case1.svg"
    output.write_text("old")
    told = succeed(workspace.parent, "plot", "work", "base/case1", "--tag", "l*", "-o", output, "--x", "time")
    assert told == f"{output}: 2 runs, 1 tag\n"
    assert ET.parse(output).getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["base/cas1"], "did you mean 'base/case1'?"),
        (["--tag", "los"], "did you mean 'loss'?"),
        (["new"], "no scalars of 'new'"),
        (["-o", "picture.bmp"], ".png, .svg, .pdf"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_on_stderr(workspace: Path, arguments: list[str], told: str) -> None:
    done = run(workspace, "plot", ".", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(workspace.glob("*.png"))


def test_wrong_usage_ends_with_status_2(workspace: Path) -> None:
    done = run(workspace, "plot", ".", "--log-scale", "perhaps")
    assert done.returncode == 2
    assert "auto, yes, no" in " ".join(done.stderr.split())


def test_without_matplotlib_the_plot_says_what_to_install(workspace: Path) -> None:
    done = run(workspace, "plot", ".", without="matplotlib")
    assert done.returncode == 1
    assert "pip install 'torch-sucrose[plot]'" in done.stderr


def test_a_report_needs_neither_torch_nor_matplotlib(workspace: Path) -> None:
    done = run(workspace, "report", ".", "-o", "report.html", "--json", without="matplotlib")
    assert (done.returncode, done.stderr) == (0, "")
    report = workspace / "report.html"
    assert json.loads(done.stdout) == {"output": str(report), "nbytes": report.stat().st_size}
    assert "base/case1/loss_train" in report.read_text(encoding="utf-8")


def test_a_folder_that_is_no_workspace_has_no_report(tmp_path: Path) -> None:
    done = run(tmp_path, "report", ".")
    assert done.returncode == 1
    assert "config.yaml" in done.stderr
    assert not list(tmp_path.glob("*.html"))

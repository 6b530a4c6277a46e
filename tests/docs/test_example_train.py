"""The training script of the examples as its users run it: to the end, again, and killed in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from command_line import CommandLine
from warm_python import WarmPython

from sucrose.post.scalars import read_scalars

if TYPE_CHECKING:
    from collections.abc import Iterator

    from warm_python import RunningProgram

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "examples" / "train.py"
CONFIG = REPOSITORY / "examples" / "digits" / "config.yaml"
N_EPOCHS = 12

RUN_A_FILE = """
import sys
sys.argv = sys.argv[1:]
__file__ = sys.argv[0]
exec(compile(open(__file__).read(), __file__, "exec"))
"""


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    pytest.importorskip("sklearn")
    python = WarmPython(
        "import sklearn.datasets, torch, torch.utils.tensorboard, torch._dynamo; torch.set_num_threads(1)"
    )
    yield python
    python.close()


class Training:
    """The script, and one workspace for it."""

    def __init__(self, python: WarmPython, folder: Path, config: str = "") -> None:
        self.folder = folder
        self._python = python
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(CONFIG.read_text() + config)

    def start(self, scenario: str = "base/case1", n_epochs: int = N_EPOCHS) -> RunningProgram:
        variables = {name: value for name, value in os.environ.items() if not name.startswith("SUCROSE_")}
        variables["SUCROSE_OVERRIDES"] = f"train.epochs={n_epochs}"
        variables["HOME"] = str(self.folder / "no-such-home")
        return self._python.start(RUN_A_FILE, [str(SCRIPT), str(self.folder), scenario], variables)

    def finish(self, scenario: str = "base/case1", n_epochs: int = N_EPOCHS) -> list[str]:
        """What a run to the end prints."""
        done = self.start(scenario, n_epochs).wait()
        assert done.returncode == 0, done.stderr
        return list(done.stdout.splitlines())

    def checkpoint(self, epoch: int = N_EPOCHS, scenario: str = "base/case1") -> dict[str, Any]:
        path = self.folder / "ckpts" / scenario / f"{scenario.replace('/', '_')}_e{epoch}.pt"
        contents: dict[str, Any] = torch.load(path, weights_only=True)
        return contents

    def curves(self) -> dict[tuple[str, str], list[tuple[int, float]]]:
        found = read_scalars(str(self.folder / "logs"))
        return {key: list(zip(one.steps.tolist(), one.values.tolist(), strict=True)) for key, one in found.items()}


@pytest.fixture(scope="module")
def undisturbed(warm: WarmPython, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A run from the first epoch to the last."""
    training = Training(warm, tmp_path_factory.mktemp("undisturbed") / "digits")
    training.finish()
    return training


def assert_ended_alike(training: Training, undisturbed: Training) -> None:
    ended, expected = training.checkpoint(), undisturbed.checkpoint()
    for name in ("model", "optim", "step"):
        assert_same(ended[name], expected[name], name)
    assert training.curves() == undisturbed.curves()


def test_it_learns_and_logs_what_the_document_promises(undisturbed: Training) -> None:
    steps = 45 * N_EPOCHS
    assert undisturbed.checkpoint()["step"] == steps
    curves = undisturbed.curves()
    assert [step for step, _ in curves["base/case1", "train/loss"]] == list(range(1, steps + 1))
    assert [step for step, _ in curves["base/case1", "test/accuracy"]] == list(range(45, steps + 1, 45))
    assert curves["base/case1", "test/accuracy"][-1][1] > 0.8


def test_a_run_that_has_reached_its_goal_does_nothing_and_goes_on_to_a_later_one(
    undisturbed: Training, warm: WarmPython, tmp_path: Path
) -> None:
    training = Training(warm, tmp_path / "digits")
    first = training.finish(n_epochs=5)
    assert len(first) == 6
    assert first[-1].startswith("epoch 5: 225 steps")
    assert training.finish(n_epochs=5) == ["base/case1: 64 inputs, 5 epochs and 225 steps done"]
    assert training.finish()[1].startswith("epoch 6: 270 steps")
    assert_ended_alike(training, undisturbed)


@pytest.mark.parametrize(
    ("number", "config"),
    [(signal.SIGKILL, ""), (signal.SIGKILL, "  mid_epoch_interval_s: 0.1\n"), (signal.SIGTERM, "")],
    ids=["killed", "killed, with checkpoints in epochs", "terminated"],
)
def test_killed_at_any_moments_it_ends_with_the_bits_of_an_undisturbed_run(
    undisturbed: Training, warm: WarmPython, tmp_path: Path, number: int, config: str
) -> None:
    training = Training(warm, tmp_path / "digits", config)
    moments = random.Random(f"{number} {config}")
    runs = [kill_after(training, moments.uniform(0.02, 0.8), number) for _ in range(3)]
    assert (143 if number == signal.SIGTERM else -signal.SIGKILL) in [run.returncode for run in runs]
    if number == signal.SIGTERM:  # nothing is lost, not even the epoch in which the signal came
        for run, following in pairwise(runs):
            assert steps_told(following.stdout.splitlines()[0]) >= steps_told(run.stdout.splitlines()[-1])
    training.finish()
    assert_ended_alike(training, undisturbed)


@pytest.fixture(scope="module")
def commands() -> Iterator[CommandLine]:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    command_line = CommandLine("import pandas, matplotlib.figure, matplotlib.backends.backend_svg")
    yield command_line
    command_line.close()


def run_script(*arguments: str | Path, folder: Path) -> str:
    """What the script prints, started by the command in an interpreter of its own."""
    environment = {**os.environ, "HOME": str(folder / "no-such-home"), "PYTHONPATH": str(REPOSITORY / "python")}
    done = subprocess.run(
        [sys.executable, "-m", "sucrose", "run", *map(str, arguments)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_work_on_what_it_has_left(warm: WarmPython, commands: CommandLine, tmp_path: Path) -> None:
    def sucrose(*arguments: str, folder: Path = tmp_path) -> str:
        done = commands.run(*arguments, folder=folder)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    training = Training(warm, tmp_path / "digits")
    training.finish(n_epochs=3)
    printed = run_script(SCRIPT, "base/case2", "train.epochs=2", "--", training.folder, folder=tmp_path)
    assert printed.splitlines()[-1].startswith("epoch 2: 90 steps")
    runs = {run["scenario"]: run for run in json.loads(sucrose("runs", "digits", "--json"))["runs"]}
    case1, case2 = runs["base/case1"], runs["base/case2"]
    assert (case1["epochs"], case1["steps"], case1["resumable"]) == (3, 135, True)
    assert (case2["epochs"], case2["steps"], case2["overrides"]) == (2, 90, ["train.epochs=2"])
    (accuracy,) = [value for step, value in training.curves()["base/case1", "test/accuracy"] if step == 135]
    assert case1["metrics"]["test/accuracy"] == pytest.approx(accuracy)
    compared = sucrose("compare", "base/case1", "base/case2", folder=training.folder)
    assert re.search(r"^model\.hidden_dim +128 +64$", compared, re.MULTILINE)
    assert re.search(r"^test/accuracy +base/case1 .* 135 ", compared, re.MULTILINE)
    sucrose("plot", "digits", "-o", "curves.svg")
    assert "test/accuracy" in (tmp_path / "curves.svg").read_text()
    sucrose("report", "digits", "-o", "report.html")
    report = (tmp_path / "report.html").read_text()
    assert all(name in report for name in ("base/case1", "base/case2", "test/accuracy", "model.hidden_dim"))


def kill_after(training: Training, seconds: float, number: int) -> subprocess.CompletedProcess[str]:
    """A run that is killed so long after it has begun to train; that may be after its end."""
    running = training.start()
    running.wait_for(" steps done")
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        running.send(number)
    done = running.wait()
    # Python gives up its handlers at its very end, when everything is saved.
    assert done.returncode in (0, 143, -signal.SIGKILL, -signal.SIGTERM), done.stderr
    return done


def steps_told(line: str) -> int:
    """How many steps a line of its output speaks of."""
    (number,) = re.findall(r"(\d+) steps", line)
    return int(number)

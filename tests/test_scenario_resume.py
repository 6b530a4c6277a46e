"""A run that was killed, at whatever moment and however often, comes to the bits of one that was not."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from interrupted_runs import is_equal
from warm_python import WarmPython

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

SCRIPT = Path(__file__).parent / "scenario" / "training.py"
EPOCHS = 6
STEPS = 12 * EPOCHS

_PRELOAD = """
import numpy, torch, torch._dynamo, torch.utils.data, torch.utils.tensorboard
import sucrose.scenarios.scenario, sucrose.scenarios.tensorboard, torchdata.stateful_dataloader
"""

# The program kills itself in the middle of a step, before it is counted; or a signal comes from outside.
_PROGRAM = """
import os, signal, sys
script, step, number, *sys.argv[1:] = sys.argv[1:]
if step:
    import sucrose.scenarios.functions as functions
    from sucrose.scenarios.scenario import Scenario
    count = Scenario.step
    def step_or_die(self, n=1):
        if self.num_steps + 1 == int(step):
            os.kill(os.getpid(), int(number))
        count(self, n)
    Scenario.step = step_or_die
exec(compile(open(script).read(), script, "exec"))
"""


class Training:
    def __init__(self, python: WarmPython, folder: Path, kind: str, interval: int, settings: str = "") -> None:
        self._python, self._kind, self._interval = python, kind, interval
        self.folder = folder
        folder.mkdir()
        (folder / "config.yaml").write_text(f"base: {{}}\nworkspace: {{{settings}}}\n")

    def arguments(self, step: int | None, number: int) -> list[str]:
        own = [str(self.folder), self._kind, str(EPOCHS), str(self._interval)]
        return [str(SCRIPT), "" if step is None else str(step), str(int(number)), *own]

    def run(self, step: int | None = None, number: int = signal.SIGKILL) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        return self._python.run(_PROGRAM, self.arguments(step, number), environment)

    def run_for(self, seconds: float) -> subprocess.CompletedProcess[str]:
        """SIGKILL comes after so many seconds, wherever the program is."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        program = self._python.start(_PROGRAM, self.arguments(None, 0), environment)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            program.send(signal.SIGKILL)
        return program.wait()

    def files(self) -> list[str]:
        folder = self.folder / "ckpts/base/case1"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def result(self) -> Any:
        return torch.load(self.folder / "final.pt")


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    warm = WarmPython(_PRELOAD)
    yield warm
    warm.close()


@pytest.fixture(scope="module")
def undisturbed(python: WarmPython, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    results = {}
    for kind in ("plain", "generator", "stateful", "workers"):
        training = Training(python, tmp_path_factory.mktemp("undisturbed") / kind, kind, 1)
        ended = training.run()
        assert ended.returncode == 0, ended.stderr
        results[kind] = training.result()
        assert results[kind]["steps"] == STEPS
    return results


@pytest.mark.parametrize("kind", ["plain", "generator", "stateful", "workers"])
def test_killed_in_the_middle_of_an_epoch_it_goes_on_from_the_epoch_before(
    python: WarmPython, undisturbed: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    training = Training(python, tmp_path / "run", kind, 1)
    for step in (5, 17, 24, 25, 70):
        assert training.run(step).returncode == -signal.SIGKILL
    ended = training.run()
    assert ended.returncode == 0, ended.stderr
    assert "begins at 5 60 0" in ended.stdout
    assert is_equal(training.result(), undisturbed[kind])


@pytest.mark.parametrize("kind", ["plain", "generator", "stateful", "workers"])
def test_told_to_stop_it_goes_on_with_the_very_next_batch(
    python: WarmPython, undisturbed: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    training = Training(python, tmp_path / "run", kind, 3)
    for step in (1, 12, 13, 30, 31, 60):
        ended = training.run(step, signal.SIGTERM)
        assert ended.returncode == 143, ended.stderr
        assert ended.stdout.endswith(f"step {step}\n")  # to the end of the loop's body, or of the epoch
    ended = training.run()
    assert ended.returncode == 0, ended.stderr
    assert is_equal(training.result(), undisturbed[kind])
    assert training.files() == [f"base_case1_e{epoch}.pt" for epoch in (1, 2, 5, 6)]


@pytest.mark.parametrize("extension", [".pt", ".snapshot"])
def test_killed_at_random_times_with_checkpoints_in_the_middle_of_epochs(
    python: WarmPython, undisturbed: dict[str, Any], tmp_path: Path, extension: str
) -> None:
    chance = random.Random(5)
    settings = f"mid_epoch_interval_s: 0.001, ckpts_extension: {extension}"
    training = Training(python, tmp_path / "run", "plain", 2, settings)
    began = []
    while not (training.folder / "final.pt").exists():
        ended = training.run_for(chance.uniform(0.05, 1.0))
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
        began += [line for line in ended.stdout.splitlines() if line.startswith("begins at")]
    assert is_equal(training.result(), undisturbed["plain"])
    assert any(int(line.split()[-1]) > 0 for line in began), "no run has resumed in the middle of an epoch"


def test_after_an_exception_the_epochs_that_had_no_file_are_there(python: WarmPython, tmp_path: Path) -> None:
    training = Training(python, tmp_path / "run", "plain", 10)
    ended = training.run(30, signal.SIGINT)
    assert "KeyboardInterrupt" in ended.stderr
    assert training.files() == ["base_case1_e2.pt"]

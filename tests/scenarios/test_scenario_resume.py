"""A run that was killed, at whatever moment and however often, comes to the bits of one that was not."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from interrupted_runs import is_equal
from warm_python import WarmPython

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping

SCRIPT = Path(__file__).parent / "programs" / "training.py"
EPOCHS = 6
STEPS = 12 * EPOCHS

_PRELOAD = """
import numpy, torch, torch._dynamo, torch.utils.data, torch.utils.tensorboard
import sucrose.scenarios.scenario, sucrose.scenarios.tensorboard, torchdata.stateful_dataloader
"""

# The program kills itself in the middle of a step, before it is counted; or after some time, wherever it is.
_PROGRAM = """
import os, signal, sys
script, seconds, step, number, *sys.argv[1:] = sys.argv[1:]
signal.setitimer(signal.ITIMER_REAL, float(seconds))  # what the kernel does then is what it does for SIGKILL
if step:
    import sucrose.scenarios.functions as functions
    from sucrose.scenarios.scenario import Scenario
    count = Scenario.step
    def step_or_die(self, n=1):
        if self.num_steps + 1 == int(step):
            os.kill(os.getpid(), int(number))
        if self.num_steps + 1 == int(os.environ.get("KILL_AT", "0")):
            os.kill(os.getpid(), signal.SIGKILL)
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

    def run(
        self,
        step: int | None = None,
        number: int = signal.SIGKILL,
        seconds: float = 0,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs it to its end, or to the step at which the signal comes, or for so many seconds."""
        kill = [str(seconds), "" if step is None else str(step), str(int(number))]
        own = [str(self.folder), self._kind, str(EPOCHS), str(self._interval)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **(environment or {})}
        return self._python.run(_PROGRAM, [str(SCRIPT), *kill, *own], environment)

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
    for step in (5, 24, 25, 70):
        assert training.run(step).returncode == -signal.SIGKILL
    ended = training.run()
    assert ended.returncode == 0, ended.stderr
    assert "begins at 5 60 0" in ended.stdout
    assert is_equal(training.result(), undisturbed[kind])


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("plain", (1, 12, 13, 30, 31, 60)),
        ("generator", (1, 12, 31, 60)),
        ("stateful", (1, 12, 31, 60)),
        ("workers", (1, 12, 31, 60)),
    ],
)
def test_told_to_stop_it_goes_on_with_the_very_next_batch(
    python: WarmPython, undisturbed: dict[str, Any], tmp_path: Path, kind: str, steps: tuple[int, ...]
) -> None:
    training = Training(python, tmp_path / "run", kind, 3)
    for step in steps:
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
    began: list[str] = []
    longest_s = 0.15  # a quarter of what all epochs take; more on a machine that is busy
    while not (training.folder / "final.pt").exists():
        ended = training.run(seconds=chance.uniform(0.02, longest_s))
        longest_s *= 1.1
        assert ended.returncode in (0, -signal.SIGALRM), ended.stderr
        began += [line for line in ended.stdout.splitlines() if line.startswith("begins at")]
    assert is_equal(training.result(), undisturbed["plain"])
    assert any(int(line.split()[-1]) > 0 for line in began), "no run has resumed in the middle of an epoch"


def test_after_an_exception_the_epochs_that_had_no_file_are_there(python: WarmPython, tmp_path: Path) -> None:
    training = Training(python, tmp_path / "run", "plain", 10)
    ended = training.run(30, signal.SIGINT)
    assert "KeyboardInterrupt" in ended.stderr
    assert training.files() == ["base_case1_e2.pt"]


def test_a_warning_has_a_checkpoint_written_and_the_program_goes_on(
    python: WarmPython, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    training = Training(python, tmp_path / "run", "plain", 100)
    warned = {"SUCROSE_WARN_SIGNALS": "SIGUSR1"}
    ended = training.run(17, signal.SIGUSR1, environment={**warned, "KILL_AT": "19"})
    assert ended.returncode == -signal.SIGKILL
    assert training.files() == ["base_case1_e1.mid.pt"]
    ended = training.run()
    assert "begins at 1 17 5" in ended.stdout
    assert is_equal(training.result(), undisturbed["plain"])

"""Training scripts that know nothing of us end with the same bits, however often they are interrupted."""

from __future__ import annotations

import re
import shutil
import signal
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from interrupted_runs import SCRIPTS, Runs, final_state, is_equal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


TERMINATED = 128 + signal.SIGTERM

# In each run another moment: at the very beginning, in training, in an evaluation, between passes, in the last batch.
MOMENTS = {
    "classifier": ["linear 1", "linear 21", "linear 25", "print 3", "step 3"],
    "accumulation": ["linear 11", "linear 20", "print 2", "step 3"],
    "workers": ["linear 4", "print 1", "linear 22"],
    "adversaries": ["linear 1", "linear 25", "step 9", "linear 20"],
    "averaging": ["linear 16", "linear 31", "linear 30", "step 4"],
    "stateful": ["linear 2", "step 6", "linear 17"],
    "no_loader": ["linear 1", "linear 8", "step 7"],
}


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    runs = Runs()
    yield runs
    runs.close()


@pytest.fixture(scope="module")
def uninterrupted(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the folder in which a script was run from its beginning to its end."""
    folders: dict[str, Path] = {}

    def folder_of(script: str) -> Path:
        if script not in folders:
            folders[script] = tmp_path_factory.mktemp(script)
            result = runs.run(SCRIPTS / f"{script}.py", folders[script])
            assert result.returncode == 0, result.stderr
            (folders[script] / "stdout").write_text(result.stdout)
        return folders[script]

    return folder_of


needs_torchdata = pytest.mark.skipif(find_spec("torchdata") is None, reason="torchdata is not installed")


@pytest.mark.parametrize(
    "script", [pytest.param(script, marks=needs_torchdata) if script == "stateful" else script for script in MOMENTS]
)
def test_a_script_that_sigterm_ends_again_and_again_has_the_weights_of_an_uninterrupted_one(
    script: str, runs: Runs, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    for moment in MOMENTS[script]:
        result = runs.run(SCRIPTS / f"{script}.py", tmp_path, moment)
        assert result.returncode == TERMINATED, result.stderr
        assert not (tmp_path / "final.pt").exists()
    result = runs.run(SCRIPTS / f"{script}.py", tmp_path)
    assert result.returncode == 0, result.stderr
    assert is_equal(final_state(tmp_path), final_state(uninterrupted(script)))


def test_the_number_of_the_batch_goes_on_in_an_interrupted_pass(
    runs: Runs, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    script = SCRIPTS / "classifier.py"
    runs.run(script, tmp_path, "linear 29")  # the second batch of the second epoch
    printed = runs.run(script, tmp_path).stdout.splitlines()
    expected = (uninterrupted("classifier") / "stdout").read_text().splitlines()
    batches = [line for line in printed if "batch" in line]
    assert batches[1:] == [line for line in expected if "batch" in line][4:]  # the first is of the replay


def test_an_interrupted_evaluation_is_repeated_as_a_whole(
    runs: Runs, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    script = SCRIPTS / "classifier.py"
    runs.run(script, tmp_path, "linear 48")  # 2 layers, 10 + 2 batches an epoch: the second of the second evaluation
    printed = runs.run(script, tmp_path).stdout.splitlines()
    accuracy = [line.split("accuracy")[1] for line in printed if "accuracy" in line]
    expected = (uninterrupted("classifier") / "stdout").read_text().splitlines()
    assert accuracy[1:] == [line.split("accuracy")[1] for line in expected if "accuracy" in line][1:]


@pytest.mark.parametrize("script", ["classifier", "workers", "no_loader"])
def test_a_finished_script_that_is_run_again_does_not_train_on(
    script: str, runs: Runs, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(uninterrupted(script), folder)
    (folder / "final.pt").unlink()
    for _ in range(2):
        result = runs.run(SCRIPTS / f"{script}.py", folder)
        assert result.returncode == 0, result.stderr
        assert is_equal(final_state(folder), final_state(uninterrupted(script)))
        last = (uninterrupted(script) / "stdout").read_text()
        assert accuracies(result.stdout)[-1:] == accuracies(last)[-1:]


@pytest.mark.parametrize("script", ["classifier", "averaging"])
def test_a_killed_script_goes_on_from_its_last_periodic_save(
    script: str, runs: Runs, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = {"LATTICE_CHECKPOINT_CONFIG": "periodic_saving=enabled,periodic_saving_interval=0.001"}
    resumed = 0
    for moment in ("step 9", "step 8", "linear 40"):
        result = runs.run(SCRIPTS / f"{script}.py", tmp_path, moment, "SIGKILL", settings=settings)
        assert result.returncode == -signal.SIGKILL
        resumed += "resumed" in result.stderr
    result = runs.run(SCRIPTS / f"{script}.py", tmp_path, settings=settings)
    assert result.returncode == 0, result.stderr
    assert resumed + ("resumed" in result.stderr) > 0
    assert is_equal(final_state(tmp_path), final_state(uninterrupted(script)))


@needs_torchdata
@pytest.mark.parametrize(("action", "status"), [("raise", 1), ("SIGINT", -signal.SIGINT), ("sys.exit", 3)])
def test_a_script_that_ends_in_the_middle_of_a_batch_goes_on_with_that_batch(
    action: str, status: int, runs: Runs, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    for moment in ("linear 14", "linear 23"):
        result = runs.run(SCRIPTS / "stateful.py", tmp_path, moment, action)
        assert result.returncode == status, result.stderr
    assert runs.run(SCRIPTS / "stateful.py", tmp_path).returncode == 0
    assert is_equal(final_state(tmp_path), final_state(uninterrupted("stateful")))


def test_a_script_that_ends_after_the_step_of_a_batch_goes_on_with_the_next_one(
    runs: Runs, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    assert runs.run(SCRIPTS / "classifier.py", tmp_path, "print 2", "raise").returncode == 1
    result = runs.run(SCRIPTS / "classifier.py", tmp_path)
    assert "resumed: 5 optimizer steps" in result.stderr
    assert is_equal(final_state(tmp_path), final_state(uninterrupted("classifier")))


def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(
    runs: Runs, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    for moment in ("step 6", "step 9"):  # by a hook, which is a part of the step
        result = runs.run(SCRIPTS / "classifier.py", tmp_path, moment, "SIGINT")
        assert result.returncode == -signal.SIGINT, result.stderr
    result = runs.run(SCRIPTS / "classifier.py", tmp_path)
    assert "resumed: 15 optimizer steps" in result.stderr
    assert is_equal(final_state(tmp_path), final_state(uninterrupted("classifier")))


@pytest.mark.parametrize("looks_first", [False, True], ids=["", "a look at the data before there is a model"])
def test_until_the_script_is_where_it_was_its_evaluations_are_of_the_restored_model(
    looks_first: bool, runs: Runs, tmp_path: Path
) -> None:
    script = tmp_path / "classifier.py"
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    text = (SCRIPTS / "classifier.py").read_text()
    look = "for x, y in test_loader:\n    print(x.shape)\n    break\ntorch.manual_seed(3)\nmodel = Net()"
    script.write_text(text.replace("model = Net()", look) if looks_first else text)
    expected = accuracies(runs.run(script, undisturbed).stdout)
    assert len({*expected}) == 3
    assert runs.run(script, tmp_path, "print 9" if looks_first else "print 8").returncode == TERMINATED  # after epoch 1
    result = runs.run(script, tmp_path)
    assert accuracies(result.stdout) == [expected[1], expected[1], expected[2]]


def accuracies(stdout: str) -> list[str]:
    return re.findall(r"accuracy ([\d.]+)", stdout)


def test_nothing_is_saved_in_the_middle_of_a_step(runs: Runs, tmp_path: Path) -> None:
    result = runs.run(SCRIPTS / "classifier.py", tmp_path, "step 6", "raise")  # by a hook, which is a part of the step
    assert "nothing is saved: an optimizer was interrupted" in result.stderr
    assert "resumed" not in runs.run(SCRIPTS / "classifier.py", tmp_path, "step 1").stderr


def test_files_of_the_earlier_run_are_not_replaced_before_the_script_is_where_it_was(
    runs: Runs, tmp_path: Path
) -> None:
    runs.run(SCRIPTS / "classifier.py", tmp_path, "linear 29")
    best = (tmp_path / "best.pt").read_bytes()
    result = runs.run(SCRIPTS / "classifier.py", tmp_path, "step 1")
    assert "best.pt is not written again" in result.stderr
    assert (tmp_path / "best.pt").read_bytes() == best


def test_sigterm_before_the_script_is_where_it_was_loses_nothing(
    runs: Runs, uninterrupted: Callable[[str], Path], tmp_path: Path
) -> None:
    runs.run(SCRIPTS / "classifier.py", tmp_path, "linear 60")
    before = sorted((tmp_path / "state").rglob("*"))
    assert runs.run(SCRIPTS / "classifier.py", tmp_path, "linear 3").returncode == TERMINATED
    assert sorted((tmp_path / "state").rglob("*")) == before
    assert runs.run(SCRIPTS / "classifier.py", tmp_path).returncode == 0
    assert is_equal(final_state(tmp_path), final_state(uninterrupted("classifier")))


def test_a_script_that_was_changed_is_not_half_resumed(runs: Runs, tmp_path: Path) -> None:
    script = tmp_path / "classifier.py"
    shutil.copy(SCRIPTS / "classifier.py", script)
    runs.run(script, tmp_path, "linear 29")
    text = script.read_text()
    script.write_text(text.replace("nn.Linear(24, 3)", "nn.Linear(24, 4)"))
    result = runs.run(script, tmp_path)
    assert result.returncode == 1
    assert "epoch" not in result.stdout  # said before anything is computed
    assert "StateMismatchError" in result.stderr
    assert "Net.0.output.weight has the shape (4, 24), the saved one (3, 24)" in result.stderr
    script.write_text(text)
    assert runs.run(script, tmp_path, "step 1").returncode == TERMINATED  # the state is still there

"""What TensorBoard shows of runs that were killed and resumed is what it shows of one that was not."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from tensorboard_server import Curves, TensorBoardServer
from warm_python import WarmPython

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEPS_PER_EPOCH = 10
SAVES_EVERY = 2
EPOCHS = 6

TRAINING = (
    """
import json, os, sys, time
from sucrose.scenarios.tensorboard import start_writer

log_dir, checkpoint, stop_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
saved = json.load(open(checkpoint)) if os.path.exists(checkpoint) else {"epoch": 0, "step": 0, "positions": {}}
step = saved["step"]
writer = start_writer(log_dir, step=step, positions=saved["positions"], config={"optim.lr": 0.1})
writer.add_hparams()
for epoch in range(saved["epoch"], EPOCHS):
    for _ in range(STEPS_PER_EPOCH):
        writer.add_scalar("before", step * 0.5, step)  # the step counts afterwards
        step += 1
        writer.add_scalar("after", step * 0.25, step)  # it has counted
        writer.add_scalar("samples", step, step * 64)
        writer.add_scalars("two", {"train": step, "val": -step}, step)
        if step == stop_at:
            print("stopped", flush=True)
            time.sleep(600)
    epoch += 1
    writer.add_scalar("by epoch", epoch * 2.0, epoch)
    if epoch % SAVES_EVERY == 0:
        contents = json.dumps({"epoch": epoch, "step": step, "positions": writer.positions()})
        with open(checkpoint + ".new", "w") as file:
            file.write(contents)
        os.replace(checkpoint + ".new", checkpoint)
writer.close()
""".replace("STEPS_PER_EPOCH", str(STEPS_PER_EPOCH))
    .replace("SAVES_EVERY", str(SAVES_EVERY))
    .replace("EPOCHS", str(EPOCHS))
)


def curves_until(n_steps: int) -> Curves:
    """Of a run that was never interrupted."""
    epochs = range(1, n_steps // STEPS_PER_EPOCH + 1)
    steps = range(1, n_steps + 1)
    main = {
        "before": [(step, step * 0.5) for step in range(n_steps)],
        "after": [(step, step * 0.25) for step in steps],
        "samples": [(step * 64, float(step)) for step in steps],
        "by epoch": [(epoch, epoch * 2.0) for epoch in epochs if epoch * STEPS_PER_EPOCH < n_steps or n_steps == 60],
    }
    return {
        "run": main,
        "run/two_train": {"two": [(step, float(step)) for step in steps]},
        "run/two_val": {"two": [(step, float(-step)) for step in steps]},
    }


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    python = WarmPython("import torch, torch.utils.tensorboard")
    yield python
    python.close()


@pytest.mark.parametrize("load_fast", [True, False], ids=["data server", "in Python"])
def test_curves_of_a_run_that_was_killed_and_resumed_are_those_of_one_that_was_not(
    python: WarmPython, tmp_path: Path, load_fast: bool
) -> None:
    arguments = [str(tmp_path / "logs" / "run"), str(tmp_path / "checkpoint")]
    (tmp_path / "logs").mkdir()
    with TensorBoardServer(tmp_path / "logs", load_fast=load_fast) as watching:
        # Before the first checkpoint; in an epoch after it and after one that was logged, but not saved; again
        # before a further checkpoint; at the very step of one.
        for stop_at in (13, 35, 33, 40):
            program = python.start(TRAINING, [*arguments, str(stop_at)], {})
            try:
                program.wait_for("stopped")
                assert watching.wait_for_curves(curves_until(stop_at)) == curves_until(stop_at)
            finally:
                program.send(signal.SIGKILL)
            assert program.wait().returncode == -signal.SIGKILL
        ended = python.run(TRAINING, [*arguments, "-1"], {})
        assert (ended.returncode, ended.stderr) == (0, "")
        assert watching.wait_for_curves(curves_until(60)) == curves_until(60)

    with TensorBoardServer(tmp_path / "logs", load_fast=load_fast) as fresh:
        assert fresh.wait_for_curves(curves_until(60)) == curves_until(60)
        groups = fresh.ask(
            "/data/plugin/hparams/session_groups",
            {
                "startIndex": 0,
                "sliceSize": 10,
                "allowedStatuses": ["STATUS_SUCCESS", "STATUS_RUNNING", "STATUS_UNKNOWN"],
                "colParams": [],
            },
        )["sessionGroups"]
    assert [session["name"] for group in groups for session in group["sessions"]] == ["run"]
    assert groups[0]["hparams"] == {"optim.lr": 0.1}
    assert {metric["name"]["tag"] for metric in groups[0]["metricValues"]} >= {"before", "after", "by epoch"}

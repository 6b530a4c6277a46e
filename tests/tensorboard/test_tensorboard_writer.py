"""The writer itself: what a `SummaryWriter` does, at once in the file, in one process only."""

from __future__ import annotations

import errno
import inspect
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data
from tensorboard_curves import curves, event_files
from torch.utils.tensorboard import SummaryWriter
from warm_python import WarmPython

from sucrose.scenarios.tensorboard import start_writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    python = WarmPython("import torch, torch.utils.tensorboard")
    yield python
    python.close()


def hparams_of(folder: Path) -> dict[str, Any]:
    content = EventAccumulator(str(folder)).Reload().PluginTagToContent("hparams")
    shown = parse_session_start_info_plugin_data(content["_hparams_/session_start_info"]).hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in shown.items()}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch traces the graph
def test_all_methods_write_what_those_of_torch_write(tmp_path: Path) -> None:
    def use(writer: SummaryWriter) -> None:
        writer.add_scalar("new", 1.5, 1, new_style=True)
        writer.add_histogram("weights", torch.arange(10.0), 2)
        writer.add_image("image", torch.zeros(3, 4, 4), 3)
        writer.add_text("text", "words", 4)
        writer.add_graph(torch.nn.Linear(2, 1), torch.zeros(1, 2))
        writer.add_tensor("tensor", torch.ones(2), 5)
        writer.close()

    use(start_writer(str(tmp_path / "ours")))
    use(SummaryWriter(str(tmp_path / "torch")))
    ours, of_torch = (EventAccumulator(str(tmp_path / name)).Reload() for name in ("ours", "torch"))
    assert ours.Tags() == of_torch.Tags()
    assert ours.Images("image")[0].encoded_image_string == of_torch.Images("image")[0].encoded_image_string
    assert ours.Histograms("weights")[0].histogram_value == of_torch.Histograms("weights")[0].histogram_value
    assert ours.Graph() == of_torch.Graph()


def test_an_event_is_in_the_file_when_the_call_returns(tmp_path: Path) -> None:
    with start_writer(str(tmp_path), max_queue=1000, flush_secs=1000) as writer:
        writer.add_scalar("loss", 1.0, 1)
        assert curves(tmp_path) == {".": {"loss": [(1, 1.0)]}}


def test_positions_are_the_sizes_of_all_files_and_those_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    with start_writer(str(tmp_path)) as writer:
        writer.add_scalars("two", {"a": 1.0, "b": 2.0}, 1)
        positions = writer.positions()
        assert positions == {str(path.relative_to(tmp_path)): path.stat().st_size for path in event_files(tmp_path)}
        assert sorted(synced) == [str(path) for path in event_files(tmp_path)]
        synced.clear()
        writer.add_scalars("two", {"a": 1.0}, 2)
        changed = {name for name, nbytes in writer.positions().items() if nbytes != positions[name]}
        assert [os.path.relpath(path, tmp_path) for path in synced] == list(changed)


def test_a_folder_that_was_removed_takes_no_checkpoint_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with start_writer(str(tmp_path / "logs")) as writer:
        writer.add_scalar("loss", 1.0, 1)
        shutil.rmtree(tmp_path / "logs")
        assert writer.positions() == {}
    assert "curves may be lost" in caplog.text


def test_logging_after_close_goes_on_in_another_file(tmp_path: Path) -> None:
    writer = start_writer(str(tmp_path), step=0, positions={})
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    writer.close()
    writer.add_scalar("loss", 2.0, 2)
    writer.close()
    assert len(event_files(tmp_path)) == 2
    assert curves(tmp_path) == {".": {"loss": [(1, 1.0), (2, 2.0)]}}


def test_threads_log_side_by_side(tmp_path: Path) -> None:
    def work(number: int) -> None:
        for step in range(100):
            writer.add_scalar(f"thread {number}", step, step)
            writer.add_scalars("all", {str(number): step}, step)

    with start_writer(str(tmp_path)) as writer:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = [(step, float(step)) for step in range(100)]
    assert curves(tmp_path) == {
        ".": {f"thread {number}": expected for number in range(4)},
        **{f"all_{number}": {"all": expected} for number in range(4)},
    }


def test_a_disk_that_is_full_in_the_middle_of_an_event_costs_that_event_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    with start_writer(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 1)
        with monkeypatch.context() as patch:
            written: list[int] = []

            def write_a_part(fd: int, data: bytes) -> int:
                if written:
                    raise OSError(errno.ENOSPC, "full")
                written.append(real(fd, data[:9]))
                return written[0]

            patch.setattr(os, "write", write_a_part)
            with pytest.raises(OSError, match="full"):
                writer.add_scalar("loss", 2.0, 2)
        writer.add_scalar("loss", 3.0, 3)
    assert curves(tmp_path) == {".": {"loss": [(1, 1.0), (3, 3.0)]}}


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGTERM)", "sys.exit(3)", "del writer"])
def test_nothing_is_lost_however_the_program_ends(python: WarmPython, tmp_path: Path, end: str) -> None:
    program = f"""
import os, signal, sys
from sucrose.scenarios.tensorboard import start_writer
writer = start_writer(sys.argv[1])
for step in range(100):
    writer.add_scalar("loss", step, step)
{end}
"""
    ended = python.run(program, [str(tmp_path)], {})
    assert ended.returncode in (0, 3, -signal.SIGTERM)
    assert ended.stderr == ""
    assert curves(tmp_path) == {".": {"loss": [(step, float(step)) for step in range(100)]}}


def test_a_handler_in_the_middle_of_logging_can_log_and_ask_for_positions(tmp_path: Path) -> None:
    asked: list[dict[str, int]] = []
    n_handled = 0

    def handler(*_: object) -> None:
        nonlocal n_handled
        n_handled += 1
        writer.add_scalar("signals", n_handled, n_handled)
        asked.append(writer.positions())
        signal.setitimer(signal.ITIMER_REAL, 0.001)  # once more; not before: handlers would pile up where this is slow

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with start_writer(str(tmp_path)) as writer:
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            step = 0
            while len(asked) < 30:
                writer.add_scalars("loss", {str(step % 50): step}, step)
                step += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found = curves(tmp_path)
    assert len(found.pop(".")["signals"]) == n_handled
    assert sorted(at for tags in found.values() for at, _ in tags["loss"]) == list(range(step))


def test_forked_workers_of_a_loader_neither_write_nor_close_the_files(python: WarmPython, tmp_path: Path) -> None:
    program = """
import logging, os, sys, torch
from torch.utils.data import DataLoader, Dataset
from sucrose.scenarios.tensorboard import start_writer

logging.basicConfig(level=logging.WARNING)
writer = start_writer(sys.argv[1])

class Items(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        writer.add_scalar("loss", -1.0, index)
        writer.add_scalars("new", {"a": 1.0}, index)
        writer.flush()
        if index == 7:
            writer.close()
            writer.add_scalar("loss", -1.0, index)
        return index

for step, batch in enumerate(DataLoader(Items(), batch_size=2, num_workers=2, multiprocessing_context="fork")):
    writer.add_scalar("loss", step, step)
assert os.listdir(sys.argv[1]) == os.listdir(writer.log_dir)
writer.add_scalar("loss", 4, 4)
"""
    ended = python.run(program, [str(tmp_path)], {})
    assert ended.returncode == 0, ended.stderr
    assert curves(tmp_path) == {".": {"loss": [(step, float(step)) for step in range(5)]}}
    assert len(event_files(tmp_path)) == 1
    assert "what it logs is not written" in ended.stderr


def test_a_writer_of_another_rank_accepts_every_call_and_touches_nothing(tmp_path: Path) -> None:
    writer = start_writer(str(tmp_path / "logs"), step=5, positions={}, writes=False, flush_secs=10)
    methods = [name for name in dir(SummaryWriter) if name.startswith("add_")]
    for name in methods:
        parameters = list(inspect.signature(getattr(SummaryWriter, name)).parameters)[1:]
        getattr(writer, name)(*([None] * len(parameters)))
    writer.flush()
    assert writer.positions() == {}
    writer.resume(step=1, positions={})
    writer.close()
    assert isinstance(writer, SummaryWriter)
    assert "add_scalar" in methods
    assert not list(tmp_path.iterdir())


def test_hyperparameters_are_those_of_the_configuration_and_belong_to_the_run(tmp_path: Path) -> None:
    config = {
        "lr": 0.1,
        "layers": 3,
        "name": "a",
        "nesterov": True,
        "betas": [0.9, 0.99],
        "clip": math.inf,
        "huge": 10**400,
        "none": None,
        "scale": np.float32(0.5),
    }
    with start_writer(str(tmp_path), config=config) as writer:
        writer.add_hparams()
    assert len(event_files(tmp_path)) == 1
    shown = hparams_of(tmp_path)
    assert shown.pop("huge").startswith("1000")
    assert shown == {
        "lr": 0.1,
        "layers": 3.0,
        "name": "a",
        "nesterov": True,
        "betas": "[0.9, 0.99]",
        "clip": "inf",
        "scale": 0.5,
    }


def test_hyperparameters_and_their_metrics_can_be_given(tmp_path: Path) -> None:
    with start_writer(str(tmp_path), config={"lr": 0.1}) as writer:
        writer.add_hparams({"lr": 0.2}, {"accuracy": 0.9}, {"lr": [0.1, 0.2]}, global_step=7)
        writer.add_hparams({"lr": 0.3}, ["accuracy"], run_name="other")
    assert hparams_of(tmp_path) == {"lr": 0.2}
    assert hparams_of(tmp_path / "other") == {"lr": 0.3}
    assert curves(tmp_path)["."]["accuracy"] == [(7, pytest.approx(0.9))]
    with start_writer(str(tmp_path)) as writer, pytest.raises(TypeError, match="lr"):
        writer.add_hparams({"lr": 0.2}, {}, {"lr": ["a"]})


def test_the_folder_of_the_run_cannot_be_another(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="logs_folder"):
        start_writer(str(tmp_path / "logs"), log_dir="elsewhere")
    with pytest.raises(TypeError, match="speed"):
        start_writer(str(tmp_path / "logs"), speed=3)


def test_a_suffix_of_file_names_is_as_in_torch(tmp_path: Path) -> None:
    start_writer(str(tmp_path), filename_suffix=".mine", comment="has no effect where there is a folder").close()
    assert [path.suffix for path in event_files(tmp_path)] == [".mine"]


def test_a_relative_folder_stays_the_same_when_the_program_changes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_below: Callable[[Path], dict[str, bytes]]
) -> None:
    monkeypatch.chdir(tmp_path)
    with start_writer("logs/run") as writer:
        assert writer.get_logdir() == writer.log_dir == "logs/run"
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        writer.add_scalars("two", {"a": 1.0}, 1)
        assert len(writer.positions()) == 2
    assert not files_below(tmp_path / "elsewhere")
    assert curves(tmp_path / "logs" / "run") == {"two_a": {"two": [(1, 1.0)]}}


def test_without_tensorboard_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard")
    with pytest.raises(ImportError, match="pip install tensorboard") as caught:
        start_writer(str(tmp_path))
    assert caught.value.name == "tensorboard"


def test_torch_and_tensorboard_are_imported_with_the_first_writer_only() -> None:
    program = (
        "import sys, sucrose.scenarios.metrics, sucrose.scenarios.tensorboard as t\n"
        "assert not {'torch', 'tensorboard', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)

"""Checkpoints in the middle of an epoch: only where everything fits together, and complete."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

import sucrose
from sucrose.scenarios import leaving, opened
from sucrose.scenarios.checkpoints import folder as folder_module
from sucrose.scenarios.run import Run

EPOCHS = 3


class KilledError(Exception):
    """Stands for SIGKILL: nothing of the program is asked to save anything."""


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    for scenario in [*opened._OPEN.values()]:
        scenario.close()


class Stream(IterableDataset[torch.Tensor]):
    """Has no length."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from torch.arange(6.0) + torch.rand(6)


class Program:
    """A training whose weight tells which batches it has seen, in which order, and which random numbers were drawn."""

    def __init__(self, folder: Path, settings: str = "mid_epoch_interval_s: 0.000001") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(f"base: {{}}\nworkspace: {{{settings}}}\n")
        self.kill_at: int | None = None
        self.seen = 0

    def start(self) -> None:
        while opened._OPEN:  # what SIGKILL has left of the earlier run saves nothing
            leaving.has_left(opened._OPEN.popitem()[1])
        torch.manual_seed(0)
        self.seen = 0
        self.model = torch.nn.Linear(1, 1, dtype=torch.float64)
        torch.nn.init.zeros_(self.model.weight)
        self.ssc = sucrose.scenario(self.folder, "base")

    def use(self, *batches: torch.Tensor) -> None:
        """Learns from batches; SIGKILL comes in the middle of one."""
        self.seen += 1
        if self.seen == self.kill_at:
            raise KilledError
        with torch.no_grad():
            for batch in batches:
                self.model.weight.mul_(1.01).add_(float(batch.double().sum()) + float(torch.rand(1)))

    def result(self) -> float:
        return float(self.model.weight.detach())


def at_each_batch(train: Callable[[Program], None], folder: Path, **kw: Any) -> None:
    """Killed in whatever batch, and begun again, the program comes to the same weight."""
    whole = Program(folder / "whole", **kw)
    whole.start()
    train(whole)
    for kill_at in range(1, whole.seen + 1):
        parts = Program(folder / f"killed_at_{kill_at}", **kw)
        parts.start()
        parts.kill_at = kill_at
        with pytest.raises(KilledError):
            train(parts)
        parts.start()
        parts.kill_at = None
        train(parts)
        assert parts.result() == whole.result(), f"killed at {kill_at}"


def loader_of(length: int = 5) -> DataLoader[torch.Tensor]:
    return DataLoader(torch.arange(float(length)), shuffle=True)  # type: ignore[arg-type]  # a tensor is a data set


def test_two_loaders_at_once(tmp_path: Path) -> None:
    def train(program: Program) -> None:
        ssc = program.ssc
        first, second = ssc.track(first=loader_of(), second=loader_of())
        ssc.load_state_dict(model=program.model)
        for _ in ssc.epoch_range(until=EPOCHS):
            for batch, other in zip(first, second, strict=True):
                program.use(batch, 10 * other)
                ssc.step()
            ssc.save_state_dict(model=program.model)

    at_each_batch(train, tmp_path)


def test_a_loop_within_the_loop(tmp_path: Path) -> None:
    def train(program: Program) -> None:
        ssc = program.ssc
        outer, inner = ssc.track(outer=loader_of(3), inner=loader_of(2))
        ssc.load_state_dict(model=program.model)
        for _ in ssc.epoch_range(until=2):
            for batch in outer:
                for other in inner:
                    program.use(batch, 10 * other)
                    ssc.step()
            ssc.save_state_dict(model=program.model)

    at_each_batch(train, tmp_path)


def test_gradients_of_several_batches_for_one_step(tmp_path: Path) -> None:
    def train(program: Program) -> None:
        ssc = program.ssc
        loader = ssc.track(loader=loader_of(6))
        optim = torch.optim.SGD(program.model.parameters(), lr=0.1)
        ssc.load_state_dict(model=program.model, optim=optim)
        if ssc.epoch == 0 and ssc.num_steps == 0:
            ssc.step()  # in its very first step nobody can know that the program counts them
        for _ in ssc.epoch_range(until=2):
            for number, batch in enumerate(loader, ssc.skipped_batches):
                program.use(batch)
                (program.model.weight * float(batch)).sum().backward()
                if number % 3 == 2:
                    optim.step()
                    optim.zero_grad()
                    ssc.step()
            ssc.save_state_dict(model=program.model, optim=optim)

    at_each_batch(train, tmp_path)


def test_a_loader_without_a_length(tmp_path: Path) -> None:
    def train(program: Program) -> None:
        ssc = program.ssc
        loader = ssc.track(loader=DataLoader(Stream()))
        ssc.load_state_dict(model=program.model)
        for _ in ssc.epoch_range(until=EPOCHS):
            batch = None
            for batch in loader:
                program.use(batch)
                ssc.step()
            assert batch is not None, "a resumed epoch has had no batch at all"
            program.use()
            ssc.save_state_dict(model=program.model)

    at_each_batch(train, tmp_path)


def test_a_look_at_the_data_before_the_loop(tmp_path: Path) -> None:
    def train(program: Program) -> None:
        ssc = program.ssc
        loader = ssc.track(loader=loader_of())
        ssc.load_state_dict(model=program.model)
        next(iter(loader))  # such as for the graph of a model
        for _ in ssc.epoch_range(until=EPOCHS):
            for batch in loader:
                program.use(batch)
                ssc.step()
            ssc.save_state_dict(model=program.model)

    at_each_batch(train, tmp_path)


def test_an_evaluation_before_the_loop_and_one_after_each_epoch(tmp_path: Path) -> None:
    def train(program: Program) -> None:
        ssc = program.ssc
        loader, test = ssc.track(loader=loader_of(), test=loader_of(3))
        ssc.load_state_dict(model=program.model)
        assert len(list(test)) == 3
        for _ in ssc.epoch_range(until=EPOCHS):
            for batch in loader:
                program.use(batch)
                ssc.step()
            assert len(list(test)) == 3
            ssc.save_state_dict(model=program.model)
        assert len(list(test)) == 3

    at_each_batch(train, tmp_path)


def files(program: Program) -> list[str]:
    folder = program.folder / "ckpts/base"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_after_the_last_epoch_there_is_nothing_to_be_in_the_middle_of(tmp_path: Path) -> None:
    program = Program(tmp_path / "w")
    program.start()
    ssc = program.ssc
    loader = ssc.track(loader=loader_of())
    ssc.load_state_dict(model=program.model)
    for _ in ssc.epoch_range(1):
        list(loader)
        ssc.save_state_dict(model=program.model)
    list(loader)
    assert files(program) == ["base_e1.pt"]


def test_what_several_calls_have_loaded_is_all_in_there(tmp_path: Path) -> None:
    program = Program(tmp_path / "w")
    program.start()
    ssc, optim = program.ssc, torch.optim.SGD(program.model.parameters(), lr=0.1)
    loader = ssc.track(loader=loader_of())
    ssc.load_state_dict(model=program.model)
    ssc.load_state_dict(optim=optim)
    for _ in ssc.epoch_range(1):
        list(loader)
    assert {"model", "optim", "loader"} < torch.load(program.folder / "ckpts/base/base_e0.mid.pt").keys()


def test_until_a_resumed_program_has_said_what_it_saves_no_state_gets_lost(tmp_path: Path) -> None:
    program = Program(tmp_path / "w")
    program.start()
    optim = torch.optim.SGD(program.model.parameters(), lr=0.1, momentum=0.9)
    program.ssc.save_state_dict(model=program.model, ema=program.model, best=0.5)
    program.start()
    ssc = program.ssc
    loader = ssc.track(loader=loader_of())
    left = ssc.load_state_dict(model=program.model)
    assert left.keys() == {"ema", "best"}  # and the program may load the first in a way of its own
    for _ in ssc.epoch_range(1):
        list(loader)
        assert files(program) == ["base_e1.pt"]
        ssc.save_state_dict(model=program.model, ema=program.model, optim=optim, best=0.25)
        list(loader)
    assert torch.load(program.folder / "ckpts/base/base_e2.mid.pt").keys() >= {"model", "ema", "optim", "best"}


def test_plain_values_of_the_checkpoint_are_in_there_again(tmp_path: Path) -> None:
    program = Program(tmp_path / "w")
    program.start()
    program.ssc.save_state_dict(model=program.model, history=[1, 2])
    program.start()
    ssc = program.ssc
    loader = ssc.track(loader=loader_of())
    ssc.load_state_dict(model=program.model)
    for _ in ssc.epoch_range(1):
        list(loader)
    program.start()
    assert program.ssc.load_state_dict(model=program.model) == {"history": [1, 2]}
    assert program.ssc.find_last_epoch() == 1


def test_one_without_any_object_is_refused(tmp_path: Path) -> None:
    program = Program(tmp_path / "w")
    program.start()
    program.ssc.track(loader=loader_of())
    with pytest.raises(ValueError, match="which objects"):
        program.ssc.save_mid_epoch()
    assert files(program) == []


def test_where_it_cannot_be_written_the_program_goes_on_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    program = Program(tmp_path / "w", "mid_epoch_interval_s: 1000")
    program.start()
    ssc = program.ssc
    loader = ssc.track(loader=loader_of())
    ssc.load_state_dict(model=program.model)
    write = folder_module.write_file

    def full(path: str, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(folder_module, "write_file", full)
    monkeypatch.setattr(Run, "_is_due", lambda self: self.step == 2, raising=True)
    with caplog.at_level(logging.WARNING):
        for _ in ssc.epoch_range(1):
            for batch in loader:
                program.use(batch)
                ssc.step()
            monkeypatch.setattr(folder_module, "write_file", write)
            ssc.save_state_dict(model=program.model)
    assert caplog.text.count("No space left on device") == 1
    assert (program.seen, files(program)) == (5, ["base_e1.pt"])

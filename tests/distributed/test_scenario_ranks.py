"""A scenario of several ranks resumes bit for bit on each of them, whoever was killed, and no rank goes another way."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
import torch
from interrupted_runs import is_equal
from ranks import run_ranks, values_of

import sucrose

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ranks import RankOutcome

STEPS_IN_EPOCH = 4
EPOCHS = 3


def train(rank: int, world_size: int, folder: str, epochs: int, moment: int, signalled: list[int]) -> dict[str, Any]:
    """A model in DDP, with noise and dropout of each rank's own."""
    import os
    import random
    import signal as signals
    import sys

    import torch
    from torch.nn.parallel import DistributedDataParallel

    import sucrose

    torch.set_num_threads(1)
    torch.manual_seed(7)
    features = torch.randn(2 * 4 * 3, 6)
    data = torch.utils.data.TensorDataset(features, features.sum(1, keepdim=True))
    model = DistributedDataParallel(
        torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
        )
    )
    optim = torch.optim.AdamW(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optim, 0.9)
    torch.manual_seed(rank)
    random.seed(rank)
    ssc = sucrose.scenario(folder, "base")
    sampler = torch.utils.data.DistributedSampler(data, seed=3)
    loader = ssc.track(loader=torch.utils.data.DataLoader(data, batch_size=3, sampler=sampler))
    ssc.load_state_dict(model=model, optim=optim, schedule=schedule)
    begun = ssc.epoch, ssc.num_steps, ssc.skipped_batches
    last_draw = None

    def train_one_epoch() -> None:
        nonlocal last_draw
        for inputs, targets in loader:
            loss = (model(inputs + 0.1 * torch.randn_like(inputs)) - targets).square().mean()
            optim.zero_grad()
            loss.backward()
            optim.step()
            last_draw = random.random()
            sucrose.step()
            if ssc.num_steps == moment:
                point("the moment")  # noqa: F821  # run_ranks has it
                if rank in signalled:
                    os.kill(os.getpid(), signals.SIGTERM)

    for epoch in sucrose.epoch_range(until=epochs):
        sampler.set_epoch(epoch)
        try:
            train_one_epoch()
        except SystemExit as ended:
            sys.exit(ended.code)  # that one cannot be pickled
        schedule.step()
        ssc.save_state_dict(model=model, optim=optim, schedule=schedule)
    ssc.close()
    return {
        "begun": begun,
        "epochs": ssc.epoch,
        "steps": ssc.num_steps,
        "found": ssc.find_last_epoch(),
        "model": {name: value.clone() for name, value in model.state_dict().items()},
        "optim": optim.state_dict(),
        "lr": schedule.get_last_lr(),
        "draws": [last_draw, random.random(), torch.rand(3)],
    }


class Training:
    """Runs of one scenario."""

    def __init__(self, tmp_path: Path, extension: str = ".snapshot") -> None:
        self.tmp_path = tmp_path
        self.folder = tmp_path / "workspace"
        self.folder.mkdir()
        (self.folder / "config.yaml").write_text(f"base: {{}}\nworkspace: {{ckpts_extension: {extension}}}\n")

    def run(
        self, moment: int = 0, *, kills: tuple[int, ...] = (), signalled: tuple[int, ...] = (), world_size: int = 2
    ) -> list[RankOutcome]:
        return run_ranks(
            world_size,
            train,
            self.tmp_path,
            arguments=[str(self.folder), EPOCHS, moment, list(signalled)],
            kills=dict.fromkeys(kills, "the moment"),
            store="torchrun",
            environment={"SUCROSE_RANK_TIMEOUT_S": "10"},
        )

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "ckpts" / "base").iterdir() if path.name[0] != ".")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Training:
    return Training(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="module")
def undisturbed(workspace: Training) -> list[Mapping[str, Any]]:
    training = workspace
    results = values_of(training.run())
    assert training.names() == [f"base_e{epoch}.snapshot" for epoch in range(1, EPOCHS + 1)]
    assert not torch.equal(results[0]["draws"][2], results[1]["draws"][2])
    assert is_equal(results[0]["optim"], results[1]["optim"])
    return results


def assert_same_bits(results: list[Mapping[str, Any]], expected: list[Mapping[str, Any]]) -> None:
    for mine, others in zip(results, expected, strict=True):
        for name in ("epochs", "steps", "found", "model", "optim", "lr", "draws"):
            assert is_equal(mine[name], others[name]), name


def test_killed_or_told_to_stop_on_one_rank_or_all_it_comes_to_the_same_bits(
    undisturbed: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    training = Training(tmp_path)
    killed = training.run(STEPS_IN_EPOCH + 2, kills=(0, 1))
    assert [one.status for one in killed] == [-signal.SIGKILL] * 2

    told = training.run(STEPS_IN_EPOCH + 1, signalled=(1,))
    assert [one.status for one in told] == [128 + signal.SIGTERM] * 2, told
    assert "base_e1.mid.snapshot" in training.names()

    missed = training.run(2 * STEPS_IN_EPOCH + 1, kills=(1,))
    assert missed[1].status == -signal.SIGKILL
    assert missed[0].status != 0  # gloo misses the other rank

    results = values_of(training.run())
    assert results[0]["begun"] == results[1]["begun"]
    assert results[0]["begun"][0] >= 1
    assert_same_bits(results, undisturbed)


def test_more_ranks_and_one_process_load_what_the_ranks_had_alike(
    undisturbed: list[Mapping[str, Any]], workspace: Training, caplog: pytest.LogCaptureFixture
) -> None:
    results = values_of(workspace.run(world_size=3))
    for mine in results:
        assert mine["begun"][:2] == (EPOCHS, STEPS_IN_EPOCH * EPOCHS)
        assert is_equal(mine["model"], undisturbed[0]["model"])
        assert is_equal(mine["optim"], undisturbed[0]["optim"])
    model = torch.nn.Module()
    model.module = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
    )
    with sucrose.Scenario(workspace.folder, "base") as ssc:
        assert "schedule" in ssc.load_state_dict(model=model)
        assert (ssc.epoch, ssc.num_steps) == (EPOCHS, STEPS_IN_EPOCH * EPOCHS)
    assert is_equal(dict(model.state_dict()), undisturbed[0]["model"])
    assert "was saved by 2 ranks, and is loaded by 1" in caplog.text
    assert "loader, sucrose" in caplog.text


def go_through(rank: int, world_size: int, folder: str) -> dict[str, Any]:
    import errno
    import os

    import torch
    from torch.distributed.fsdp import fully_shard

    import sucrose
    import sucrose.scenarios.checkpoints.folder as folder_module

    found: dict[str, Any] = {}

    def error_of(call: Any) -> tuple[str, str]:
        try:
            call()
        except Exception as error:  # noqa: BLE001  # the type is what the test asks for
            return type(error).__name__, str(error)
        return "nothing", ""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def replaced_on(number: int, name: str, value: Any, call: Any) -> tuple[str, str]:
        original = getattr(folder_module, name)
        if rank == number:
            setattr(folder_module, name, value)
        try:
            return error_of(call)
        finally:
            setattr(folder_module, name, original)

    overrides = ["model.dim=3"] if rank == 1 else []
    found["other fields"] = error_of(lambda: sucrose.Scenario(folder, "base", overrides))
    ssc = sucrose.scenario(folder, "base")
    found["own rank"] = ssc["rank"]
    model = torch.nn.Linear(ssc["model.dim"], 2)
    path = os.path.join(ssc.where, "base_e{}.pt")
    found["empty"] = ssc.load_state_dict(model=model)
    ssc.log({"loss": 1.0 + rank}, step=1)
    writer = ssc.start_pytorch_tensorboard()
    writer.add_histogram("weights", model.weight)
    writer.add_scalar("loss", 2.0, 2)
    found["there"] = []
    for number in (1, 2, 3):
        model.weight.data.fill_(number)
        ssc.save_state_dict(model=model, rank=rank)
        found["there"].append(os.path.exists(path.format(number)))
    found["full"] = replaced_on(0, "write_file", refuse, lambda: ssc.save_state_dict(model=model))
    found["unseen"] = replaced_on(1, "_is_seen", lambda _: False, lambda: ssc.save_state_dict(model=model))
    found["epoch"] = ssc.epoch
    wrong = torch.nn.Linear(5, 2) if rank == 1 else model
    found["no epoch"] = error_of(lambda: ssc.load_state_dict(7, model=model))
    model.weight.data.fill_(-1)
    found["mismatch"] = *error_of(lambda: ssc.load_state_dict(2, model=wrong)), model.weight.sum().item()
    if rank == 0:
        for number in (3, 4):
            with open(path.format(number), "r+b") as file:
                file.truncate(100)
    left = ssc.load_state_dict(model=model)
    found["loaded"] = (
        ssc.epoch,
        ssc.find_last_epoch(),
        list(ssc.epoch_range(2)),
        model.weight[0, 0].item(),
        left["rank"],
    )
    model.weight.data.fill_(9)
    ssc.save_state_dict(5, model=model)
    found["held"] = os.path.exists(path.format(3))
    ssc.close()
    found["closed"] = os.path.exists(path.format(3))

    def make_sharded(seed: int) -> tuple[Any, Any]:
        torch.manual_seed(seed)
        module = fully_shard(torch.nn.Linear(6, 5))
        optimizer = torch.optim.AdamW(module.parameters())
        module(torch.ones(2, 6)).sum().backward()
        optimizer.step()
        return module, optimizer

    sharded, optimizer = make_sharded(0)
    with sucrose.Scenario(folder, "sharded") as ssc:
        found["sharded in files"] = error_of(lambda: ssc.save_state_dict(model=sharded, optim=optimizer))
    with open(os.path.join(folder, "config.yaml")) as file:
        text = file.read()
    torch.distributed.barrier()
    if rank == 0:
        with open(os.path.join(folder, "config.yaml"), "w") as file:
            file.write(text + "workspace: {ckpts_extension: .snapshot}\n")
    torch.distributed.barrier()
    with sucrose.Scenario(folder, "sharded") as ssc:
        ssc.save_state_dict(model=sharded, optim=optimizer)
        expected = sharded.weight.full_tensor().clone(), optimizer.state[sharded.weight]["exp_avg"].full_tensor()
    other, other_optimizer = make_sharded(1)
    with sucrose.Scenario(folder, "sharded") as ssc:
        ssc.load_state_dict(model=other, optim=other_optimizer)
    loaded = other.weight.full_tensor(), other_optimizer.state[other.weight]["exp_avg"].full_tensor()
    found["sharded"] = ssc.epoch, [torch.equal(mine, wanted) for mine, wanted in zip(loaded, expected, strict=True)]
    return found


def test_rank_0_decides_and_writes_and_all_know_how_it_went(tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "config.yaml").write_text("base: {model.dim: 4, rank: '${env:RANK}'}\nsharded: {}\n")
    first, second = values_of(run_ranks(2, go_through, tmp_path, arguments=[str(folder)]))
    assert [first["own rank"], second["own rank"]] == [0, 1]
    assert first["other fields"] == second["other fields"]
    assert first["other fields"][0] == "RankError"
    assert "model.dim=3" in first["other fields"][1]
    for found in (first, second):
        assert found["empty"] == {}
        assert found["there"] == [True] * 3
        assert found["epoch"] == 3
        assert found["mismatch"][2] == -8
        assert found["loaded"] == (2, 2, [3, 4], 2.0, 0)
        assert (found["held"], found["closed"]) == (False, True)
        assert found["sharded in files"][0] == "UnsupportedError"
        assert "ckpts_extension: .snapshot" in found["sharded in files"][1]
        assert found["sharded"] == (1, [True, True])
    for name, kinds in {
        "full": ["OSError", "RankError"],
        "unseen": ["RankError", "StorageError"],
        "no epoch": ["FileNotFoundError", "RankError"],
        "mismatch": ["RankError", "StateMismatchError"],
    }.items():
        assert [first[name][0], second[name][0]] == kinds, name
    assert "all of them share" in second["unseen"][1]
    names = sorted(path.name for path in (folder / "ckpts" / "base").iterdir())
    assert names == ["base_e1.pt", "base_e2.pt", "base_e3.pt", "quarantine"]
    writers = {path.name.split(".")[-2] for path in (folder / "logs" / "base").iterdir() if "tfevents" in path.name}
    assert len(writers) == 1  # process that has written them

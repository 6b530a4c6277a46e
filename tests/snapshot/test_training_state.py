"""What a training program consists of comes back so that training continues with the same bits."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from bitwise import assert_same
from torch.optim import lr_scheduler

from sucrose import RNGState, Snapshot, StateDict
from sucrose.errors import StateMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch.optim import Optimizer

pytestmark = pytest.mark.any_backend

OPTIMIZERS: dict[str, Callable[[Iterable[torch.nn.Parameter]], Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "Adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=0.01),
    "LBFGS": lambda p: torch.optim.LBFGS(p, max_iter=3),
}
SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=40),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)], [4]
    ),
}


def make_model(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2)
    )


def train(model: torch.nn.Module, optimizer: Optimizer, scheduler: Any, steps: int) -> list[torch.Tensor]:
    losses = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        return loss

    for _ in range(steps):
        inputs = torch.randn(5, 6) * random.random() + float(np.random.rand())
        losses.append(optimizer.step(closure).detach())
        scheduler.step()
    return losses


@pytest.mark.parametrize(
    ("optimizer_name", "scheduler_name"),
    [*((name, "StepLR") for name in OPTIMIZERS), *(("AdamW", name) for name in SCHEDULERS)],
)
def test_training_continues_in_a_new_program_with_the_same_bits(
    tmp_path: Path, optimizer_name: str, scheduler_name: str
) -> None:
    model = make_model(0)
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    scheduler = SCHEDULERS[scheduler_name](optimizer)
    app_state = {"rng": RNGState(), "model": model, "optimizer": optimizer, "scheduler": scheduler}
    train(model, optimizer, scheduler, 5)
    Snapshot.take(tmp_path / "s", app_state)
    losses = train(model, optimizer, scheduler, 5)

    fresh = make_model(1)
    fresh_optimizer = OPTIMIZERS[optimizer_name](fresh.parameters())
    fresh_scheduler = SCHEDULERS[scheduler_name](fresh_optimizer)
    report = Snapshot(tmp_path / "s").restore(
        {"rng": RNGState(), "model": fresh, "optimizer": fresh_optimizer, "scheduler": fresh_scheduler}
    )
    assert report.statefuls == ("model", "optimizer", "scheduler", "rng")
    assert_same(train(fresh, fresh_optimizer, fresh_scheduler, 5), losses)
    assert_same(fresh.state_dict(), model.state_dict())
    assert_same(fresh_optimizer.state_dict(), optimizer.state_dict())
    assert_same(fresh_scheduler.get_last_lr(), scheduler.get_last_lr())


def test_an_optimizer_keeps_its_memory_and_its_parameters(tmp_path: Path) -> None:
    model = make_model(0)
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    scheduler = SCHEDULERS["StepLR"](optimizer)
    train(model, optimizer, scheduler, 2)
    app_state = {"model": model, "optimizer": optimizer}
    Snapshot.take(tmp_path / "s", app_state)
    before = [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]
    moments = [state["exp_avg"].data_ptr() for state in optimizer.state.values()]
    expected = copy.deepcopy(model.state_dict())
    train(model, optimizer, scheduler, 2)
    Snapshot(tmp_path / "s").restore(app_state)
    assert_same(dict(model.state_dict()), dict(expected))
    assert [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())] == before
    assert [state["exp_avg"].data_ptr() for state in optimizer.state.values()] == moments
    assert list(optimizer.state) == list(model.parameters())


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(1000, 32)
            self.head = torch.nn.Linear(32, 1000, bias=False)
            self.head.weight = self.embedding.weight

    model, other = Tied(), Tied()
    Snapshot.take(tmp_path / "s", {"model": model})
    assert (tmp_path / "s" / "data" / "0_0.safetensors").stat().st_size < 1.1 * model.head.weight.nbytes
    Snapshot(tmp_path / "s").restore({"model": other})
    assert_same(other.head.weight.data, model.head.weight.data)
    assert other.head.weight is other.embedding.weight


@pytest.mark.parametrize("enabled", [True, False])
def test_a_gradient_scaler_comes_back(tmp_path: Path, enabled: bool) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=123.0, growth_interval=7, enabled=enabled)
    Snapshot.take(tmp_path / "s", {"scaler": scaler})
    other = torch.amp.GradScaler("cpu", enabled=enabled)
    Snapshot(tmp_path / "s").restore({"scaler": other})
    assert_same(other.state_dict(), scaler.state_dict())


def test_extra_state_of_modules_comes_back(tmp_path: Path) -> None:
    class WithExtra(torch.nn.Linear):
        extra: Any = None

        def get_extra_state(self) -> Any:
            return self.extra

        def set_extra_state(self, state: Any) -> None:
            self.extra = state

    model, other = WithExtra(2, 2), WithExtra(2, 2)
    model.extra = {"calls": 3, "scale": torch.tensor([0.5])}
    Snapshot.take(tmp_path / "s", {"model": model})
    Snapshot(tmp_path / "s").restore({"model": other})
    assert_same(other.extra, model.extra)


def test_strict_decides_whether_a_module_may_differ_in_keys(tmp_path: Path) -> None:
    saved = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2), "b": torch.nn.Linear(2, 2)})
    wanted = torch.nn.ModuleDict({"b": torch.nn.Linear(2, 2), "c": torch.nn.Linear(2, 2)})
    Snapshot.take(tmp_path / "s", {"model": saved})
    before = copy.deepcopy(wanted.state_dict())
    with pytest.raises(StateMismatchError, match=r"c\.weight.*not saved") as caught:
        Snapshot(tmp_path / "s").restore({"model": wanted})
    assert caught.value.key == "0/model/c.weight"
    assert_same(dict(wanted.state_dict()), dict(before))
    Snapshot(tmp_path / "s").restore({"model": wanted}, strict=False)
    assert_same(wanted["b"].weight.data, saved["b"].weight.data)
    assert_same(wanted["c"].weight.data, before["c.weight"])


def draw() -> list[Any]:
    gaussian = float(np.random.standard_normal())
    return [torch.rand(3), random.random(), random.gauss(0, 1), float(np.random.rand()), gaussian]


def test_generators_continue_after_a_restore_as_they_did_after_the_take(tmp_path: Path) -> None:
    draw()  # leaves the second half of a pair of Gaussians behind in two of the generators
    snapshot = Snapshot.take(tmp_path / "s", {"rng": RNGState()})
    first = draw()
    draw()
    Snapshot(snapshot.path).restore({"rng": RNGState()})
    assert_same(draw(), first)


@pytest.mark.parametrize("bit_generator", ["PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_numpy_may_draw_from_another_bit_generator(tmp_path: Path, bit_generator: str) -> None:
    usual = np.random.get_bit_generator()
    np.random.set_bit_generator(getattr(np.random, bit_generator)(12345))
    try:
        draw()
        Snapshot.take(tmp_path / "s", {"rng": RNGState()})
        first = draw()
        Snapshot(tmp_path / "s").restore({"rng": RNGState()})
        assert_same(draw(), first)
    finally:
        np.random.set_bit_generator(usual)


class DrawsAndMayFail:
    def __init__(self, fails: bool) -> None:
        self._fails = fails

    def state_dict(self) -> dict[str, Any]:
        draw()
        if self._fails:
            raise LookupError("no state today")
        return {"n": 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        draw()


@pytest.mark.parametrize("fails", [False, True])
def test_a_take_leaves_the_generators_alone(tmp_path: Path, fails: bool) -> None:
    before = RNGState().state_dict()
    app_state = {"draws": DrawsAndMayFail(fails), "rng": RNGState()}
    try:
        Snapshot.take(tmp_path / "s", app_state)
    except LookupError:
        assert fails
    else:
        assert not fails
    assert_same(RNGState().state_dict(), before)


def test_generators_are_restored_last(tmp_path: Path) -> None:
    app_state = {"rng": RNGState(), "draws": DrawsAndMayFail(fails=False)}
    Snapshot.take(tmp_path / "s", app_state)
    first = draw()
    Snapshot(tmp_path / "s").restore(app_state)
    assert_same(draw(), first)


def test_a_state_dict_behaves_like_a_dict(tmp_path: Path) -> None:
    state = StateDict(epoch=3, best=0.5)
    state["epoch"] += 1
    assert dict(state) == {"epoch": 4, "best": 0.5}
    Snapshot.take(tmp_path / "s", {"progress": state})
    del state["best"]
    state["epoch"] = 0
    Snapshot(tmp_path / "s").restore({"progress": state})
    assert dict(state) == {"epoch": 4, "best": 0.5}

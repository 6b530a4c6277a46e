"""What only a real GPU can prove; on other machines these tests are skipped.

`test_cuda_snapshot.py` runs the same pipeline on the fake driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from bitwise import assert_same

from sucrose import RNGState, Snapshot, StateDict, build_info
from sucrose.engine import get_engine
from sucrose.options import override_options
from sucrose.state.local import LocalCheckpoints
from sucrose.state.values import freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def model_on(device: str) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(512, 1024), torch.nn.GELU(), torch.nn.Linear(1024, 512)).to(device)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        batch = torch.randn(64, 512, device="cuda")
        torch.nn.functional.mse_loss(model(batch), batch).backward()
        optimizer.step()
        optimizer.zero_grad()


def copies(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}


def test_the_engine_reaches_the_device_and_its_kernels_load() -> None:
    assert get_engine().reaches_device(0)
    assert not build_info()["cuda_driver"].startswith("none")
    tensor = torch.arange(64, device="cuda").view(8, 8).t()
    assert tensor.is_cuda
    assert get_engine().stats()["cuda_fallbacks"] == {}


def test_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        model, optimizer = model_on("cuda")
        app_state = {"model": model, "optimizer": optimizer, "rng": RNGState()}
        train(model, optimizer, 5)
        Snapshot.take(tmp_path / "s", app_state)
        train(model, optimizer, 5)
        expected = copies(model.state_dict())
        Snapshot(tmp_path / "s").restore(app_state)
        train(model, optimizer, 5)
        assert_same(copies(model.state_dict()), expected)
    finally:
        torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize("staging", ["auto", "host", "device"])
def test_optimizer_steps_after_async_take_are_not_saved(tmp_path: Path, staging: str) -> None:
    model, optimizer = model_on("cuda")
    train(model, optimizer, 3)
    expected = copies(model.state_dict())
    with override_options(staging=staging):
        pending = Snapshot.async_take(tmp_path / "s", {"model": model, "optimizer": optimizer})
    train(model, optimizer, 50)
    snapshot = pending.wait()
    assert snapshot.stats is not None
    assert snapshot.stats.staging == ("host" if staging == "host" else "device")
    assert_same(copies(snapshot.get_state_dict_for_key("model")), expected)


def test_tensors_that_are_freed_after_async_take_were_saved(tmp_path: Path) -> None:
    for i in range(10):
        state = StateDict(x=torch.full((1 << 22,), float(i), device="cuda"))
        pending = Snapshot.async_take(tmp_path / str(i), {"state": state})
        del state
        junk = torch.full((1 << 22,), -1.0, device="cuda")  # torch lends the same memory again
        saved = pending.wait().read_object("0/state/x")
        assert saved.unique().tolist() == [float(i)]
        assert junk.max() == -1


@pytest.mark.parametrize("on_side_stream", [False, True])
def test_kernels_that_are_pending_come_first(tmp_path: Path, on_side_stream: bool) -> None:
    stream = torch.cuda.Stream() if on_side_stream else torch.cuda.default_stream()
    matrix = torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        x = matrix.clone()
        for _ in range(50):
            x = torch.tanh(x @ matrix)
        pending = Snapshot.async_take(tmp_path / "s", {"state": StateDict(x=x)})
        expected = x.clone()
        x.zero_()
    torch.cuda.synchronize()
    assert_same(pending.wait().read_object("0/state/x"), expected.cpu())


def layouts() -> dict[str, Callable[[], torch.Tensor]]:
    return {
        "contiguous": lambda: torch.randn(3_000_001, device="cuda"),
        "transposed": lambda: torch.randn(1500, 2100, device="cuda").t(),
        "channels_last": lambda: torch.randn(8, 64, 33, 31, device="cuda").to(memory_format=torch.channels_last),
        "sliced": lambda: torch.randn(900, 900, device="cuda")[7:800:3, 5:777],
        "bf16": lambda: torch.randn(777, 333, device="cuda").bfloat16().t(),
        "bytes": lambda: torch.randint(256, (4_194_305,), dtype=torch.uint8, device="cuda"),
        "odd": lambda: torch.randint(256, (999,), dtype=torch.uint8, device="cuda")[1:],
        "bool": lambda: torch.rand(100, 77, device="cuda").t() > 0.5,
        "complex": lambda: torch.randn(65, 31, dtype=torch.complex64, device="cuda").t(),
        "conjugate": lambda: torch.randn(65, dtype=torch.complex64, device="cuda").conj(),
        "scalar": lambda: torch.tensor(2.5, device="cuda"),
        "empty": lambda: torch.empty(0, 3, device="cuda"),
    }


def test_every_layout_comes_back_among_thousands_of_small_tensors(tmp_path: Path) -> None:
    torch.manual_seed(11)
    state = {name: make() for name, make in layouts().items()}
    state |= {f"small{i}": torch.randn(i % 700 + 1, device="cuda") for i in range(4000)}
    expected = copies(state)
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(**state)})
    assert snapshot.verify()
    for tensor in state.values():
        if not tensor.is_conj():
            tensor.zero_()
    target = StateDict(**state)
    snapshot.restore({"state": target})
    assert_same(copies(dict(target)), expected)
    assert get_engine().stats()["cuda_fallbacks"] == {}


def test_asynchronous_saves_give_the_device_memory_back(tmp_path: Path) -> None:
    state = StateDict(x=torch.ones(1 << 26, device="cuda"))
    Snapshot.async_take(tmp_path / "warm", {"state": state}).wait()
    torch.cuda.synchronize()
    free_before, _ = torch.cuda.mem_get_info()
    for i in range(5):
        Snapshot.async_take(tmp_path / str(i), {"state": state}).wait()
    torch.cuda.synchronize()
    free_after, _ = torch.cuda.mem_get_info()
    assert free_after >= free_before - (64 << 20)


def test_a_state_with_tensors_of_the_device_is_saved_behind_the_programs_back_and_comes_back_to_the_device(
    tmp_path: Path,
) -> None:
    model, optimizer = model_on("cuda")
    train(model, optimizer, 3)
    value = {"model": model, "optimizer": optimizer.state_dict(), "views": [model[0].weight.detach().t(), 1.5]}
    expected = copies(model.state_dict())
    pending = LocalCheckpoints(str(tmp_path), keep_last=None).begin_save({"training": freeze(value, "training")})
    train(model, optimizer, 3)
    pending.wait()
    newest = LocalCheckpoints(str(tmp_path), keep_last=None).newest()
    assert newest is not None
    found = thaw(newest.read("training"), key="training", source=str(tmp_path), distrust=None)
    assert_same(copies(found["model"].state_dict()), expected)
    assert all(parameter.is_cuda for parameter in found["model"].parameters())
    assert found["views"][0].untyped_storage().data_ptr() == found["model"][0].weight.untyped_storage().data_ptr()

"""Snapshots of tensors on CUDA devices, on the fake driver: `Snapshot` down to the file and back."""

from __future__ import annotations

import json
import logging
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from engine_in_use import put_to_use
from fake_cuda import AVAILABLE, LIBRARY, DeviceTensor, FakeCuda, values_of

import sucrose.engine
from sucrose import Snapshot, StateDict
from sucrose.engine import make_engine
from sucrose.errors import CudaError
from sucrose.options import Options, override_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=f"{LIBRARY} is built by `make native-tests`")

CHUNK_NBYTES = sucrose.engine.CHUNK_NBYTES


@pytest.fixture
def fake() -> Iterator[FakeCuda]:
    fake = FakeCuda(devices=2)
    yield fake
    fake.assert_used_rightly()


@pytest.fixture(autouse=True)
def streams(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """The program's current stream on each device."""
    current = {0: 0, 1: 2}
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=current[device]))
    return current


@pytest.fixture
def use_engine(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function that makes an engine on the fake driver, for `Snapshot` to use."""

    def use(**options: Any) -> Any:
        engine = make_engine(Options(engine="native", cuda_driver=str(LIBRARY), **options))
        put_to_use(engine, monkeypatch)
        return engine

    return use


def mixture(fake: FakeCuda) -> dict[str, torch.Tensor]:
    """Large and small, strided, of many dtypes, on two devices and the host."""
    torch.manual_seed(5)
    weight = fake.tensor(torch.randn(700, 3000))
    state: dict[str, torch.Tensor] = {
        "weight": weight,
        "tied": weight,
        "turned": fake.tensor(torch.randn(300, 500).t()),
        "image": fake.tensor(torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last), device=1),
        "slice": fake.tensor(torch.randn(40, 40))[3:30:2, 5:],
        "scalar": fake.tensor(torch.tensor(3.5)),
        "none": fake.tensor(torch.empty(0)),
        "host": torch.arange(100),
        "large": fake.tensor(torch.randint(256, (3 * CHUNK_NBYTES + 5,), dtype=torch.uint8), device=1),
    }
    dtypes = [torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.bool, torch.complex64]
    for i, dtype in enumerate(dtypes):
        state[f"dtype{i}"] = fake.tensor(torch.randn(33).to(dtype), device=i % 2)
    for i in range(200):
        state[f"small{i}"] = fake.tensor(torch.randn(i + 1))
    return state


def values(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: values_of(tensor) for name, tensor in state.items()}


def overwrite(state: dict[str, torch.Tensor]) -> None:
    for tensor in state.values():
        tensor.detach().as_subclass(torch.Tensor).zero_()


def test_tensors_on_devices_come_back_in_place(tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any]) -> None:
    use_engine()
    state = mixture(fake)
    before = values(state)
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(**state)})
    assert snapshot.verify()
    overwrite(state)
    target = StateDict(**state)
    snapshot.restore({"state": target})
    assert all(target[name] is state[name] for name in state if name != "none")
    assert_same(values(state), before)
    assert fake.stats().copies_pageable == 0
    assert fake.stats().kernels > 0


def test_the_files_do_not_tell_where_a_tensor_was(
    tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any], files_below: Callable[[Path], dict[str, bytes]]
) -> None:
    use_engine()
    state = mixture(fake)
    del state["tied"]
    Snapshot.take(tmp_path / "device", {"state": StateDict(**state)})
    Snapshot.take(tmp_path / "host", {"state": StateDict(**values(state))})
    assert files_below(tmp_path / "device" / "data") == files_below(tmp_path / "host" / "data")


@pytest.mark.parametrize("staging", ["auto", "host", "device"])
def test_what_the_program_does_on_its_stream_after_async_take_is_not_saved(
    tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any], streams: dict[int, int], staging: str
) -> None:
    use_engine()
    state = mixture(fake)
    before = values(state)
    with override_options(staging=staging):
        pending = Snapshot.async_take(tmp_path / "s", {"state": StateDict(**state)})
    for tensor in state.values():
        if isinstance(tensor, DeviceTensor) and tensor.is_contiguous() and tensor.nbytes:
            fake.fill_later(tensor, 0x3C, stream=streams[tensor.ordinal])
    state["host"].zero_()
    snapshot = pending.wait(60)
    assert snapshot.stats is not None
    assert snapshot.stats.staging == ("host" if staging == "host" else "device")
    saved = snapshot.get_state_dict_for_key("state")
    assert_same({name: saved[name].contiguous() for name in before}, {n: t.contiguous() for n, t in before.items()})


def test_async_take_returns_before_the_device_has_done_anything(
    tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any]
) -> None:
    use_engine()
    state = {"x": fake.tensor(torch.arange(5000.0)), "y": torch.ones(3)}
    Snapshot.async_take(tmp_path / "warm", {"state": StateDict(**state)}).wait(60)
    fake.hold()
    pending = Snapshot.async_take(tmp_path / "s", {"state": StateDict(**state)})
    assert not pending.staged()
    with pytest.raises(TimeoutError):
        pending.wait_staged(0.05)
    fake.resume()
    pending.wait_staged(60)
    assert_same(pending.wait(60).read_object("0/state/x"), torch.arange(5000.0))


def test_pending_kernels_come_before_a_take(tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any]) -> None:
    use_engine()
    tensor = fake.tensor(torch.zeros(CHUNK_NBYTES, dtype=torch.uint8))
    fake.fill_later(tensor, 7, delay_us=50_000)
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(x=tensor)})
    assert snapshot.read_object("0/state/x").unique().tolist() == [7]


def test_pending_kernels_come_before_a_restore(tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any]) -> None:
    use_engine()
    tensor = fake.tensor(torch.arange(9999))
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(x=tensor)})
    fake.fill_later(tensor, 0xFF, delay_us=50_000)
    snapshot.restore({"state": StateDict(x=tensor)})
    assert_same(values_of(tensor), torch.arange(9999))


def test_modules_on_a_device_restore_in_place_and_on_another_one(
    tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any]
) -> None:
    use_engine()

    def module(device: int) -> torch.nn.Module:
        linear = torch.nn.Linear(30, 20)
        for name, parameter in list(linear.named_parameters()):
            setattr(linear, name, torch.nn.Parameter(fake.tensor(parameter.detach(), device)))
        return linear

    model, other, on_host = module(0), module(1), torch.nn.Linear(30, 20)
    expected = values(dict(model.named_parameters()))
    snapshot = Snapshot.take(tmp_path / "s", {"model": model})
    for target in (model, other, on_host):
        overwrite(dict(target.named_parameters()))
        snapshot.restore({"model": target})
        assert_same(values(dict(target.named_parameters())), expected)


def test_objects_are_read_into_device_memory(tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any]) -> None:
    use_engine()
    source = torch.randn(1500, 1500)
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(x=source)})
    target = fake.tensor(torch.zeros(1500, 1500), device=1)
    assert snapshot.read_object("0/state/x", obj_out=target, memory_budget_bytes=1) is target
    assert_same(values_of(target), source)


def test_a_failing_driver_is_a_cuda_error_and_leaves_nothing_behind(
    tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any]
) -> None:
    use_engine()
    state = {"state": StateDict(x=fake.tensor(torch.ones(3 * CHUNK_NBYTES // 4)))}
    fake.fail("cuMemcpyDtoHAsync_v2", nth=2)
    with pytest.raises(CudaError, match="cuMemcpyDtoHAsync: CUDA_ERROR_UNKNOWN"):
        Snapshot.take(tmp_path / "s", state)
    assert list(tmp_path.iterdir()) == []
    fake.fail("cuEventSynchronize", sticky=True)
    with pytest.raises(CudaError, match="cuEventSynchronize"):  # from the call itself, if that is late enough to see it
        Snapshot.async_take(tmp_path / "s", state).wait(60)
    assert list(tmp_path.iterdir()) == []
    fake.clear_failures()
    assert Snapshot.take(tmp_path / "s", state).verify()


def test_memory_that_cannot_be_pinned_is_warned_of_once(
    tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    use_engine()
    fake.fail("cuMemHostRegister_v2", result=2, sticky=True)
    state = {"state": StateDict(x=fake.tensor(torch.ones(1000)))}
    with caplog.at_level(logging.WARNING, "sucrose"):
        for name in "abc":
            Snapshot.take(tmp_path / name, state)
    (warning,) = caplog.messages
    assert "pinned memory on device 0" in warning
    assert "CUDA_ERROR_OUT_OF_MEMORY" in warning
    assert Snapshot(tmp_path / "c").read_object("0/state/x").sum() == 1000


def test_snapshots_keep_next_to_nothing_on_the_device(
    tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any]
) -> None:
    use_engine()
    state = {"state": StateDict(x=fake.tensor(torch.ones(30 << 20, dtype=torch.uint8)), **mixture(fake))}
    own_nbytes = fake.stats().allocated_nbytes
    for i in range(4):
        Snapshot.async_take(tmp_path / str(i), state).wait(60)
    blocks_nbytes = 2 * 2 * 3 * CHUNK_NBYTES  # of each device and direction, for kernels
    deadline = time.monotonic() + 60
    while fake.stats().allocated_nbytes > own_nbytes + blocks_nbytes and time.monotonic() < deadline:
        time.sleep(0.01)  # what is freed goes in the order of its stream
    assert fake.stats().allocated_nbytes <= own_nbytes + blocks_nbytes


def test_a_trace_shows_every_step_of_a_slot(tmp_path: Path, fake: FakeCuda, use_engine: Callable[..., Any]) -> None:
    engine = use_engine(trace=str(tmp_path / "trace-%p.json"))
    state = {"state": StateDict(x=fake.tensor(torch.ones(2 * CHUNK_NBYTES)), y=torch.ones(10))}
    Snapshot.async_take(tmp_path / "s", state).wait(60).restore(state)
    (path,) = tmp_path.glob("trace-*.json")
    text = path.read_text()
    del engine
    events = json.loads(text + "]")  # the engine closes the array when it goes
    spans = [event for event in events if event["ph"] == "X"]
    assert {"capture", "plan", "stage", "d2h", "digest", "write", "fsync", "commit", "h2d"} <= {
        span["name"] for span in spans
    }
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {tracks[span["tid"]].rstrip(" 0123456789") for span in spans} == {
        "program",
        "ring slot",
        "staging slot",
        "files",
    }
    written = sum(span["args"]["nbytes"] for span in spans if span["name"] == "write")
    nbytes = (tmp_path / "s" / "data" / "0_0.safetensors").stat().st_size
    assert nbytes <= written < nbytes + 4096  # direct writes are of whole blocks

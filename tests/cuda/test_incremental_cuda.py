"""Snapshots with a base of tensors on CUDA devices, on the fake driver."""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from engine_in_use import put_to_use
from fake_cuda import AVAILABLE, LIBRARY, FakeCuda, values_of

from sucrose import Snapshot, StateDict
from sucrose.engine import make_engine
from sucrose.options import Options
from sucrose.snapshot.tensors import extents_of, source_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=f"{LIBRARY} is built by `make native-tests`")

MIB = 1 << 20


@pytest.fixture
def fake() -> Iterator[FakeCuda]:
    fake = FakeCuda(devices=2)
    yield fake
    fake.assert_used_rightly()


@pytest.fixture
def engine(fake: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> Any:
    engine = make_engine(Options(engine="native", cuda_driver=str(LIBRARY)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: SimpleNamespace(cuda_stream=0))
    put_to_use(engine, monkeypatch)
    return engine


def test_devices_and_host_make_the_same_fingerprints(fake: FakeCuda, engine: Any) -> None:
    torch.manual_seed(1)
    values = [
        torch.randn(3000, 1500),
        torch.randn(7),
        torch.randn(900, 1100).t(),
        torch.randn(64, 64)[::2, 1:50],
        torch.randint(0, 255, (5 * MIB + 3,), dtype=torch.uint8),
    ]
    on_devices = [fake.tensor(value, device=number % 2) for number, value in enumerate(values)]
    pieces = array("Q", [6000 * 600, 4, 3600 * 100, 196, 5 * MIB + 3])
    found = engine.fingerprint(extents_of([source_memory(tensor, engine) for tensor in on_devices]), pieces)
    expected = engine.fingerprint(extents_of([source_memory(value, engine) for value in values]), pieces)
    assert found == expected


def test_only_changed_pieces_of_device_tensors_are_copied_and_written(
    fake: FakeCuda, engine: Any, tmp_path: Path
) -> None:
    values = {"large": torch.randn(320, 16384), "turned": torch.randn(300, 500).t(), "small": torch.ones(3)}
    state = StateDict({name: fake.tensor(value) for name, value in values.items()})
    base = Snapshot.take(tmp_path / "a", {"state": state}, fingerprints=True)
    before = engine.stats()["from_device_nbytes"]
    state["large"][70] += 1
    state["small"] += 1
    second = Snapshot.async_take(tmp_path / "b", {"state": state}, base=base).wait()
    assert engine.stats()["from_device_nbytes"] - before == 4 * MIB + 12
    expected = {name: values_of(tensor) for name, tensor in state.items()}
    assert_same(second.get_state_dict_for_key("state"), expected)
    assert second.bases == (str(tmp_path / "a"),)

"""Tensors of CUDA devices that the engine reaches are used where they are.

The device is a pretence, so that it works everywhere: tensors that say they are on one, and an engine
that believes them.
"""

from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from engine_in_use import put_to_use

from sucrose import Snapshot, StateDict
from sucrose.engine import Extents
from sucrose.engine.reference import ReferenceEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STREAM = 0x5EED


class DeviceTensor(torch.Tensor):
    """Host memory that claims to be on the CUDA device 1."""

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 1)


class DeviceEngine(ReferenceEngine):
    """Reaches the device 1 as if it were host memory, and keeps what it was given."""

    def __init__(self, reached: int) -> None:
        super().__init__()
        self.written: list[Extents] = []
        self.filled: list[Extents] = []
        self._reached = reached

    def reaches_device(self, ordinal: int) -> bool:
        return ordinal == self._reached

    def write(self, path: str, sources: Extents, **options: Any) -> Any:
        self.written.append(sources)
        return super().write(path, _on_host(sources), **options)

    def read(self, path: str, offsets: array[int], destinations: Extents, **options: Any) -> Any:
        self.filled.append(destinations)
        return super().read(path, offsets, _on_host(destinations), **options)


def _on_host(extents: Extents) -> Extents:
    return Extents(
        addresses=extents.addresses, nbytes=extents.nbytes, strided=extents.strided, keep_alive=extents.keep_alive
    )


@pytest.fixture
def use_engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], DeviceEngine]:
    def use(reached: int) -> DeviceEngine:
        engine = DeviceEngine(reached)
        put_to_use(engine, monkeypatch)
        return engine

    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=STREAM + device), raising=True
    )
    return use


def on_device(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone().as_subclass(DeviceTensor)


def test_device_tensors_are_written_from_where_they_are(
    tmp_path: Path, use_engine: Callable[[int], DeviceEngine]
) -> None:
    engine = use_engine(1)
    host, plain = torch.arange(8.0), on_device(torch.arange(6.0))
    turned = on_device(torch.arange(12.0).view(3, 4)).t()
    Snapshot.take(tmp_path / "s", {"state": StateDict(host=host, plain=plain, turned=turned)})
    (sources,) = engine.written
    assert list(sources.devices) == [-1, -1, 1, 1]  # the file's header comes first
    assert sources.streams == {1: STREAM + 1}
    assert list(sources.addresses)[1:] == [host.data_ptr(), plain.data_ptr(), turned.data_ptr()]
    assert [layout.extent for layout in sources.strided] == [3]
    saved = Snapshot(tmp_path / "s").get_state_dict_for_key("state")
    for name, tensor in (("host", host), ("plain", plain), ("turned", turned)):
        assert_same(saved[name], tensor.as_subclass(torch.Tensor).contiguous(), name)


def test_async_take_uses_them_where_they_are_too(tmp_path: Path, use_engine: Callable[[int], DeviceEngine]) -> None:
    engine = use_engine(1)
    Snapshot.async_take(tmp_path / "s", {"state": StateDict(x=on_device(torch.ones(5)))}).wait()
    assert list(engine.written[0].devices) == [-1, 1]


def test_a_state_without_device_tensors_names_no_devices(
    tmp_path: Path, use_engine: Callable[[int], DeviceEngine]
) -> None:
    engine = use_engine(1)
    state = StateDict(x=torch.ones(5), y=torch.ones(3, 2).t())
    Snapshot.take(tmp_path / "s", {"state": state}).restore({"state": state})
    for extents in (*engine.written, *engine.filled):
        assert len(extents.devices) == 0
        assert extents.streams == {}


def test_tensors_of_a_device_that_is_out_of_reach_go_through_a_copy(
    tmp_path: Path, use_engine: Callable[[int], DeviceEngine]
) -> None:
    engine = use_engine(0)
    tensor = on_device(torch.arange(6.0))
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(x=tensor)})
    expected = tensor.as_subclass(torch.Tensor).clone()
    tensor.zero_()
    snapshot.restore({"state": StateDict(x=tensor)})
    assert len(engine.written[0].devices) == len(engine.filled[0].devices) == 0
    assert engine.filled[0].addresses[0] != tensor.data_ptr()
    assert_same(tensor.as_subclass(torch.Tensor), expected)


def test_they_are_restored_where_they_are(tmp_path: Path, use_engine: Callable[[int], DeviceEngine]) -> None:
    engine = use_engine(1)
    source = StateDict(x=torch.arange(6.0), y=torch.arange(12.0).view(3, 4), z=torch.arange(4))
    Snapshot.take(tmp_path / "s", {"state": source})
    x, y = on_device(torch.zeros(6)), on_device(torch.zeros(4, 3)).t()
    z = torch.zeros(4, dtype=torch.int64)
    Snapshot(tmp_path / "s").restore({"state": StateDict(x=x, y=y, z=z)})
    (destinations,) = engine.filled
    assert dict(zip(destinations.addresses, destinations.devices, strict=True)) == {
        x.data_ptr(): 1,
        y.data_ptr(): 1,
        z.data_ptr(): -1,
    }
    assert destinations.streams == {1: STREAM + 1}
    for name, tensor in (("x", x), ("y", y), ("z", z)):
        assert_same(tensor.as_subclass(torch.Tensor).contiguous(), source[name], name)


def test_conjugate_views_are_resolved_on_the_device(tmp_path: Path, use_engine: Callable[[int], DeviceEngine]) -> None:
    engine = use_engine(1)
    values = torch.tensor([1 + 2j, 3 - 4j])
    state = StateDict(conjugate=on_device(values).conj(), negative=on_device(values).conj().imag)
    snapshot = Snapshot.take(tmp_path / "s", {"state": state})
    assert list(engine.written[0].devices) == [-1, 1, 1]
    saved = snapshot.get_state_dict_for_key("state")
    assert_same(saved["conjugate"], torch.tensor([1 - 2j, 3 + 4j]))
    assert_same(saved["negative"], torch.tensor([-2.0, 4.0]))


def test_tied_are_those_on_the_same_device_only(tmp_path: Path, use_engine: Callable[[int], DeviceEngine]) -> None:
    use_engine(1)
    host = torch.arange(6.0)
    device = host.as_subclass(DeviceTensor)  # another device may well use the same address
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(a=host, b=host.view(2, 3), c=device, d=device)})
    places = {
        key[-1]: entry.byte_range for key, entry in snapshot.get_manifest().items() if hasattr(entry, "byte_range")
    }
    assert places["a"] == places["b"]
    assert places["c"] == places["d"]
    assert places["a"] != places["c"]


def test_the_reference_engine_refuses_devices(tmp_path: Path) -> None:
    extents = Extents(addresses=array("Q", [4096]), nbytes=array("Q", [1]), devices=array("b", [0]))
    engine = ReferenceEngine()
    assert not engine.reaches_device(0)
    with pytest.raises(ValueError, match="host memory"):
        engine.write(str(tmp_path / "f"), extents)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(ValueError, match="host memory"):
        engine.read(str(tmp_path / "f"), array("Q", [0]), extents, file_nbytes=1)

"""Relayed operations on the memory of CUDA devices, on the fake driver."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pytest
import torch
from carriers import NAME, received, serve
from fake_cuda import AVAILABLE, LIBRARY, DeviceTensor, FakeCuda, values_of

from sucrose.engine import CHUNK_NBYTES, Encoding, Extents, Staging, make_engine
from sucrose.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sucrose.engine import Engine

pytestmark = pytest.mark.skipif(not AVAILABLE, reason=f"{LIBRARY} is built by `make native-tests`")

ENCODINGS = {"as it is": None, "encoded": Encoding(level=0)}
STAGINGS = {
    "not staged": None,
    "on the host": Staging(mode="host", budget_nbytes=1 << 30),
    "on the device": Staging(mode="device", budget_nbytes=1 << 30),
    "with too little memory": Staging(mode="host", budget_nbytes=2 * CHUNK_NBYTES),
}


@pytest.fixture
def fake() -> Iterator[FakeCuda]:
    fake = FakeCuda(devices=2)
    yield fake
    fake.assert_used_rightly()


@pytest.fixture
def engine(fake: FakeCuda) -> Engine:
    assert fake.stats().streams == 0
    return make_engine(Options(engine="native", cuda_driver=str(LIBRARY), ring_slots=4))


def extents_of(tensors: list[torch.Tensor]) -> Extents:
    extents = Extents(keep_alive=list(tensors), streams={0: 0, 1: 2})
    for tensor in tensors:
        extents.append(tensor.data_ptr(), tensor.nbytes)
        extents.devices.append(tensor.ordinal if isinstance(tensor, DeviceTensor) else -1)
    return extents


def state(fake: FakeCuda) -> tuple[list[torch.Tensor], bytes]:
    """Tensors of two devices and of the host in turn, and their bytes."""
    tensors: list[torch.Tensor] = []
    content = b""
    for index, count in enumerate([3_000_000, 5, 2_000_000, 700_000, 1_500_000, 9]):
        values = torch.randn(count, generator=torch.Generator().manual_seed(index))
        content += values.numpy().tobytes()
        tensors.append(values if index % 3 == 2 else fake.tensor(values, index % 2))
    return tensors, content


@pytest.mark.parametrize("staging", STAGINGS.values(), ids=STAGINGS)
@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
def test_tensors_of_devices_are_carried_away_and_back(
    fake: FakeCuda, engine: Engine, encoding: Encoding | None, staging: Staging | None
) -> None:
    tensors, content = state(fake)
    ticket = engine.write_relayed(NAME, extents_of(tensors), encoding=encoding, staging=staging)
    stored, result = received(ticket)
    assert result.nbytes == len(content)
    assert encoding is not None or stored == content
    targets = [
        fake.tensor(torch.zeros(tensor.shape), tensor.ordinal)
        if isinstance(tensor, DeviceTensor)
        else torch.zeros(tensor.shape)
        for tensor in tensors
    ]
    destinations = extents_of(targets)
    offsets = array("Q", [sum(destinations.nbytes[:index]) for index in range(len(targets))])
    read = engine.read_relayed(
        NAME, offsets, destinations, file_nbytes=len(content), digests=result.digests, stored=result.stored
    )
    serve(read, stored)
    assert list(read.wait(timeout_s=60).corrupt) == []
    assert b"".join(values_of(target).numpy().tobytes() for target in targets) == content


def test_what_is_on_devices_is_safe_before_anything_is_sent_where_it_was_staged_there(
    fake: FakeCuda, engine: Engine
) -> None:
    tensors, content = state(fake)
    ticket = engine.write_relayed(
        NAME, extents_of(tensors), staging=Staging(mode="device", budget_nbytes=1 << 30), max_inflight_nbytes=1
    )
    ticket.wait_safe(timeout_s=60)
    ticket.wait_staged(timeout_s=60)
    assert ticket.staging() == "device"
    for tensor in tensors:
        values_of_memory = tensor if not isinstance(tensor, DeviceTensor) else tensor.as_subclass(torch.Tensor)
        values_of_memory.fill_(7)
    assert received(ticket)[0] == content


@pytest.mark.parametrize("staging", STAGINGS.values(), ids=STAGINGS)
def test_a_cancelled_write_leaves_the_slots_and_devices_to_the_next(
    fake: FakeCuda, engine: Engine, staging: Staging | None
) -> None:
    tensors, _ = state(fake)
    ticket = engine.write_relayed(NAME, extents_of(tensors), staging=staging)
    ticket.cancel()
    with pytest.raises(InterruptedError):
        received(ticket)
    stored, _ = received(engine.write_relayed(NAME, extents_of(tensors)))
    assert stored == b"".join(values_of(tensor).numpy().tobytes() for tensor in tensors)

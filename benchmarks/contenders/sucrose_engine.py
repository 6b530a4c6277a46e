"""Our engine alone, with and without digests: what they cost, and how fast it crosses the bus."""

from __future__ import annotations

from array import array
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import Contender, Role

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class EngineDigest(Contender):
    name = "engine"
    role = Role.OURS
    distribution = "torch-sucrose"
    durable = True
    note = "one file written by the engine, digests included"
    digest = True

    def __init__(self) -> None:
        self._engine = import_module("sucrose.engine").get_engine()
        self._new_extents = import_module("sucrose.engine.base").Extents
        self._torch = import_module("torch")
        self._digests = b""

    def save(self, state: State, path: Path) -> None:
        ticket = self._engine.write(str(path), self._extents(state), digest=self.digest)
        self._digests = ticket.wait().digests
        self._engine.sync([str(path.parent)])

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        extents = self._extents(state)
        offsets = array("Q", [0])
        for nbytes in extents.nbytes:
            offsets.append(offsets[-1] + nbytes)
        file_nbytes = offsets.pop()
        self._engine.read(str(path), offsets, extents, file_nbytes=file_nbytes, digests=self._digests).wait()
        return state

    def _extents(self, state: State) -> Any:
        extents = self._new_extents(keep_alive=list(state.values()))
        devices = [tensor.get_device() for tensor in state.values()]
        for tensor in state.values():
            extents.append(tensor.data_ptr(), tensor.numel() * tensor.itemsize)
        if any(ordinal >= 0 for ordinal in devices):
            extents.devices.extend(devices)
            for ordinal in {*devices} - {-1}:
                extents.streams[ordinal] = self._torch.cuda.current_stream(ordinal).cuda_stream
        return extents


class EngineNoDigest(EngineDigest):
    name = "engine, digest=False"
    role = Role.NOTE
    note = "the same without digests"
    digest = False

"""``tensorizer``: a format of its own, made for fast loads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class Tensorizer(Contender):
    name = "tensorizer"
    distribution = "tensorizer"
    peer = "tensorizer"
    note = "loads only, into new tensors; no copy into existing ones is added"

    def __init__(self) -> None:
        self._tensorizer = import_module("tensorizer")

    def save(self, state: State, path: Path) -> None:
        serializer = self._tensorizer.TensorSerializer(str(path))
        serializer.write_state_dict(state)
        serializer.close()

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        with self._tensorizer.TensorDeserializer(str(path), device="cpu") as deserializer:
            return dict(deserializer.items())

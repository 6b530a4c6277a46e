"""``runai-model-streamer``: loads safetensors files with several threads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class RunaiModelStreamer(Contender):
    name = "runai-model-streamer"
    distribution = "runai-model-streamer"
    peer = "runai-model-streamer"
    note = "loads only; copied into the existing tensors, since its buffer is reused"

    def __init__(self) -> None:
        self._streamer = import_module("runai_model_streamer").SafetensorsStreamer
        self._save_file = import_module("safetensors.torch").save_file

    def save(self, state: State, path: Path) -> None:
        self._save_file(state, path)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        seen = {}
        with self._streamer() as streamer:
            streamer.stream_file(str(path))
            for name, tensor in streamer.get_tensors():
                seen[name] = state[name].copy_(tensor)
        return seen

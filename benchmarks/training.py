"""A small training program: a transformer with AdamW, computing all the time and copying nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from benchmarks.device import drain
from benchmarks.states import SEED, adamw_state

if TYPE_CHECKING:
    from benchmarks.states import State

WARM_UP_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of the model and of a batch."""

    width: int
    layers: int
    vocabulary: int
    sequences: int
    tokens: int


SIZES = {
    "cpu": Size(width=512, layers=4, vocabulary=6_000, sequences=1, tokens=32),
    "cuda": Size(width=2048, layers=8, vocabulary=24_000, sequences=16, tokens=768),
}
"""Parameters and AdamW's moments are about 180 MiB on a CPU and 5 GiB on a GPU."""


class Training:
    """Trains on one batch of random tokens, which lies on the device from the beginning.

    `scale` shrinks the width, and so the state about by its square.
    """

    def __init__(self, device: str, scale: float) -> None:
        torch.manual_seed(SEED)
        size = SIZES[device]
        width = max(64, round(size.width * scale**0.5) // 64 * 64)
        layer = torch.nn.TransformerEncoderLayer(
            width, nhead=width // 64, dim_feedforward=4 * width, dropout=0.0, batch_first=True, device=device
        )
        self._embedding = torch.nn.Embedding(size.vocabulary, width, device=device)
        self._encoder = torch.nn.TransformerEncoder(layer, num_layers=size.layers, enable_nested_tensor=False)
        self._model = torch.nn.ModuleDict({"embedding": self._embedding, "encoder": self._encoder})
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-4, fused=True)
        shape = (size.sequences, size.tokens)
        self._tokens = torch.randint(size.vocabulary, shape, device=device)
        self._device = device
        for _ in range(WARM_UP_STEPS):
            self.step()
        drain(device)

    def step(self) -> None:
        """One step; on a GPU it is only enqueued."""
        with torch.autocast(self._device, torch.bfloat16, enabled=self._device == "cuda"):
            hidden = self._encoder(self._embedding(self._tokens))
            logits = functional.linear(hidden, self._embedding.weight)
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), self._tokens.roll(-1).flatten())
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()

    def state(self) -> State:
        """The very tensors that the steps change: parameters, moments, and AdamW's counters."""
        return adamw_state(self._model, self._optimizer)

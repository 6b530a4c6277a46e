"""The states that are saved and loaded: flat dictionaries of CPU tensors.

A state is the same in every process that builds it, so that each contender can have a process of
its own. `scale` shrinks the number of elements and keeps the mixture of sizes.
"""

from __future__ import annotations

import hashlib
import math
from ctypes import c_char
from typing import TYPE_CHECKING, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

State: TypeAlias = dict[str, torch.Tensor]

SEED = 20


def build(name: str, scale: float) -> State:
    """The state called `name`; raises KeyError for an unknown one."""
    torch.manual_seed(SEED)
    return BUILDERS[name](scale)


def nbytes(state: Mapping[str, torch.Tensor]) -> int:
    """Bytes of all tensors together."""
    return sum(tensor.numel() * tensor.itemsize for tensor in state.values())


def fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over every name, dtype, shape and byte: equal only for bit-equal states."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update((c_char * (tensor.numel() * tensor.itemsize)).from_address(tensor.data_ptr()))
    return digest.hexdigest()


def _square(count: int, dtype: torch.dtype, scale: float) -> State:
    """`count` square matrices drawn from Gaussian(0, 0.02).

    One is drawn and the others are that one, rolled: drawing a gigabyte takes longer than saving it.
    """
    side = max(16, round(4096 * math.sqrt(scale)))
    drawn = (torch.randn(side, side) * 0.02).to(dtype)
    return {f"layer.{i}.weight": torch.roll(drawn, i, dims=0) for i in range(count)}


def _tiny(count: int, side: int, scale: float) -> State:
    """Very many small matrices, each with memory of its own as parameters have."""
    return {f"layer.{i}.weight": torch.randn(side, side) for i in range(max(10, round(count * scale)))}


def _transformer(scale: float) -> State:
    """A transformer after one step of AdamW: matrices, vectors and scalars."""
    width = max(64, round(768 * math.sqrt(scale)) // 64 * 64)
    encoder = torch.nn.TransformerEncoderLayer(width, nhead=width // 64, dim_feedforward=4 * width)
    model = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(max(64, round(24_000 * math.sqrt(scale))), width),
            "encoder": torch.nn.TransformerEncoder(encoder, num_layers=10, enable_nested_tensor=False),
        }
    )
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    optimizer.step()
    optimizer.zero_grad()
    state = {f"model.{name}": tensor.detach() for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state |= {f"optimizer.{name}.{slot}": tensor for slot, tensor in optimizer.state[parameter].items()}
    return state


BUILDERS: dict[str, Callable[[float], State]] = {
    "large": lambda scale: _square(16, torch.float32, scale),
    "double": lambda scale: _square(32, torch.float32, scale),
    "bf16": lambda scale: _square(32, torch.bfloat16, scale),
    "small": lambda scale: _tiny(10_000, 64, scale),
    "many": lambda scale: _tiny(100_000, 8, scale),
    "real": _transformer,
}
"""At scale 1: 1 GiB, 2 GiB, 1 GiB, 156 MiB, 24 MiB in 100,000 tensors, and about 1 GiB."""

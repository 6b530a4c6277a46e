"""The states that are saved and loaded: flat dictionaries of tensors.

A state is the same in every process that builds it on the same device, so that each contender can
have a process of its own. `scale` shrinks the number of elements and keeps the mixture of sizes.
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


def build(name: str, scale: float, device: str) -> State:
    """The state called `name`, on `device`; raises KeyError for an unknown one."""
    torch.manual_seed(SEED)
    return BUILDERS[name](scale, device)


def nbytes(state: Mapping[str, torch.Tensor]) -> int:
    """Bytes of all tensors together."""
    return sum(tensor.numel() * tensor.itemsize for tensor in state.values())


def fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over every name, dtype, shape and byte: equal only for bit-equal states."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update((c_char * (tensor.numel() * tensor.itemsize)).from_address(tensor.data_ptr()))
    return digest.hexdigest()


def is_equal(state: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    """Whether two states have the same names, dtypes, shapes and bytes; compared where `other` lies."""
    return state.keys() == other.keys() and all(_same_bytes(state[name], tensor) for name, tensor in other.items())


def _same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return torch.equal(as_bytes(one).to(other.device), as_bytes(other))


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of `tensor` in one dimension; a view where it is contiguous."""
    return tensor.detach().reshape(-1).view(torch.uint8)


def adamw_state(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Parameters and what the optimizer keeps for each, under flat names; the tensors themselves, no copies."""
    state = {f"model.{name}": tensor.detach() for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state |= {f"optimizer.{name}.{slot}": tensor for slot, tensor in optimizer.state[parameter].items()}
    return state


def _square(count: int, dtype: torch.dtype, scale: float, device: str) -> State:
    """`count` square matrices drawn from Gaussian(0, 0.02).

    One is drawn and the others are that one, rolled: drawing a gigabyte takes longer than saving it.
    """
    side = max(16, round(1024 * math.sqrt(scale)) * 4)
    drawn = (torch.randn(side, side, device=device) * 0.02).to(dtype)
    return {f"layer.{i}.weight": torch.roll(drawn, i, dims=0) for i in range(count)}


def _tiny(count: int, side: int, scale: float, device: str) -> State:
    """Very many small matrices, each with memory of its own as parameters have."""
    number = max(10, round(count * scale))
    return {f"layer.{i}.weight": torch.randn(side, side, device=device) for i in range(number)}


def _transformer(scale: float, device: str) -> State:
    """A transformer after one step of AdamW: matrices, vectors and scalars."""
    width = max(64, round(768 * math.sqrt(scale)) // 64 * 64)
    encoder = torch.nn.TransformerEncoderLayer(width, nhead=width // 64, dim_feedforward=4 * width, device=device)
    model = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(max(64, round(24_000 * math.sqrt(scale))), width, device=device),
            "encoder": torch.nn.TransformerEncoder(encoder, num_layers=10, enable_nested_tensor=False),
        }
    )
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * 1e-3
    optimizer.step()
    optimizer.zero_grad()
    return adamw_state(model, optimizer)


BUILDERS: dict[str, Callable[[float, str], State]] = {
    "large": lambda scale, device: _square(16, torch.float32, scale, device),
    "double": lambda scale, device: _square(32, torch.float32, scale, device),
    "bf16": lambda scale, device: _square(32, torch.bfloat16, scale, device),
    "small": lambda scale, device: _tiny(10_000, 64, scale, device),
    "many": lambda scale, device: _tiny(100_000, 8, scale, device),
    "real": _transformer,
}
"""At scale 1: 1 GiB, 2 GiB, 1 GiB, 156 MiB, 24 MiB in 100,000 tensors, and about 1 GiB."""

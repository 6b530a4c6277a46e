"""Looking at all elements of a tensor of any dtype, a block at a time, in bounded memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from sucrose.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_NUMEL = 1 << 22
"""Elements that are converted at one time: 32 MiB as doubles."""

_OPAQUE = re.compile(r"torch\.(u?int[1-7]|bits\w+|float4\w*)")
"""Dtypes that torch can store, and not convert to numbers."""
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def flat_dense(tensor: torch.Tensor) -> torch.Tensor:
    """The elements in row-major order, one-dimensional; a view where the tensor lies so.

    Quantized ones are what is stored, without scales; those that torch cannot calculate with are bytes.

    Raises:
        UnsupportedError: it is no dense tensor.
    """
    value = tensor.detach()
    if value.is_quantized:
        value = value.int_repr()
    if value.layout is not torch.strided or value.is_nested:
        raise UnsupportedError(f"a tensor of the layout {value.layout} has no elements in a row")
    flat = value.resolve_conj().resolve_neg().contiguous().view(-1)
    return flat.view(torch.uint8) if _OPAQUE.fullmatch(str(flat.dtype)) else flat


def blocks(flat: torch.Tensor) -> Iterator[torch.Tensor]:
    """Pieces of a one-dimensional tensor, as views."""
    for begin in range(0, flat.numel(), BLOCK_NUMEL):
        yield flat[begin : begin + BLOCK_NUMEL]


def as_bytes(flat: torch.Tensor) -> torch.Tensor:
    """The same memory as bytes."""
    return flat.view(torch.uint8)


def is_integral(dtype: torch.dtype) -> bool:
    """Whether its values are whole numbers."""
    return not dtype.is_floating_point and not dtype.is_complex


def as_doubles(block: torch.Tensor) -> torch.Tensor:
    """The values of a real dtype as doubles; whole numbers beyond 2**53 are rounded."""
    if block.dtype in _UNSIGNED:  # torch converts few of them by itself on older releases
        block = ordered_integers(block)
        return block.double() + 2.0**63
    return block.double()


def ordered_integers(block: torch.Tensor) -> torch.Tensor:
    """Whole numbers as int64 in the same order: unsigned ones shifted by -2**63, so that 64 bits fit."""
    if block.dtype is torch.uint64:
        return block.view(torch.int64) ^ (-(1 << 63))
    if block.dtype is torch.uint32:
        return (block.view(torch.int32).long() & 0xFFFFFFFF) ^ (-(1 << 63))
    if block.dtype is torch.uint16:
        return (block.view(torch.int16).long() & 0xFFFF) ^ (-(1 << 63))
    return block.long()

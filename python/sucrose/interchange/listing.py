"""What is in a checkpoint, value by value. No torch here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

_NBITS = re.compile(r"torch\.[a-z]+?(\d{1,3})(?!\d)")
_NARROW = {"torch.bool": 8, "torch.quint4x2": 4, "torch.quint2x4": 2, "torch.float4_e2m1fn_x2": 8}
"""Bits of one element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One value of a checkpoint.

    Attributes:
        path: keys that lead to it, joined with ``/``; ``%`` and ``/`` in a key are percent-encoded.
        type: ``"Tensor"``, ``"ShardedTensor"``, ``"object"``, ``"int"``, ``"dict"`` for an empty one, and so on.
        dtype: of a tensor, torch's own name; None for other values.
        shape: of a tensor.
        nbytes: of its content; None where only loading would tell.
        value: of a primitive.
        detail: the class of an object; empty otherwise.
        rank: whose value it is.
        place: equal for values that are the same bytes of the same file: tied tensors. None where that is unknown.
        files: that it is stored in, by their names in the checkpoint.
        same_as: of a value or a container that the rank shares with another one: where it stands, such as
            ``"0/model"``, which tells everything else of it.
    """

    path: str
    type: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    nbytes: int | None = None
    value: Any = None
    detail: str = ""
    rank: int = 0
    place: object = None
    files: tuple[str, ...] = ()
    same_as: str | None = None

    @property
    def is_tensor(self) -> bool:
        """Whether it has a dtype and a shape."""
        return self.dtype is not None

    @property
    def numel(self) -> int:
        """Elements of a tensor; 0 for other values."""
        return 0 if self.shape is None else math.prod(self.shape)


def tensor_nbytes(dtype: str, shape: tuple[int, ...] | list[int]) -> int | None:
    """Bytes of a dense tensor; None for a dtype whose size its name does not tell.

    Example:
        >>> from sucrose.interchange.listing import tensor_nbytes
        >>> tensor_nbytes("torch.bfloat16", (3, 4)), tensor_nbytes("torch.float8_e4m3fn", (5,))
        (24, 5)
    """
    nbits = _NARROW.get(dtype)
    if nbits is None:
        found = _NBITS.match(dtype)
        if found is None:
            return None
        nbits = 8 * max(1, int(found[1]) // 8)
    return -(-math.prod(shape) * nbits // 8)


def text_nbytes(value: Any) -> int | None:
    """Bytes of a text, in UTF-8, and of bytes; None for other values, which are small.

    Example:
        >>> from sucrose.interchange.listing import text_nbytes
        >>> text_nbytes("λ = 0.1"), text_nbytes(b"abc"), text_nbytes(0.1)
        (8, 3, None)
    """
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    return len(value) if isinstance(value, bytes) else None


def without_torch_prefix(dtype: str) -> str:
    """The dtype as people write it.

    Example:
        >>> from sucrose.interchange.listing import without_torch_prefix
        >>> without_torch_prefix("torch.float32")
        'float32'
    """
    return dtype.removeprefix("torch.")

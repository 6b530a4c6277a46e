"""How far two tensors are apart, whatever their dtype, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from sucrose.interchange.tensor_blocks import as_bytes, as_doubles, blocks, flat_dense, is_integral, ordered_integers


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """Two tensors of one dtype and shape, element by element.

    Attributes:
        n_different: elements that are not the same bits.
        max_abs: the largest distance between two numbers; infinite where one of them is. Whole numbers are exact.
        max_relative: the largest distance as a part of the larger of both absolute values: from 0 to 2.
        n_nan: elements that are NaN on one side only; they count in neither of the two above.
        n_beyond: elements that are farther apart than both tolerances allow, and those that are NaN on one side.
    """

    n_different: int
    max_abs: float
    max_relative: float
    n_nan: int
    n_beyond: int


def are_same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of one dtype and shape are equal bit for bit: 0.0 and -0.0 are not, a NaN and itself are.

    Example:
        >>> import torch
        >>> from sucrose.interchange.tensor_difference import are_same_bits
        >>> are_same_bits(torch.tensor(float("nan")), torch.tensor(float("nan")))
        True
    """
    pairs = zip(blocks(as_bytes(flat_dense(a))), blocks(as_bytes(flat_dense(b))), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def tensor_difference(a: torch.Tensor, b: torch.Tensor, *, atol: float = 0.0, rtol: float = 0.0) -> TensorDifference:
    """Compares two tensors of one dtype and shape.

    Args:
        a: the first one.
        b: the second one.
        atol: a distance that does not count.
        rtol: the same, as a part of the larger of both absolute values. One of the two is enough for an element.

    Example:
        >>> import torch
        >>> from sucrose.interchange.tensor_difference import tensor_difference
        >>> tensor_difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])).max_abs
        0.5
    """
    left, right = flat_dense(a), flat_dense(b)
    itemsize = left.element_size()
    n_different = n_nan = n_beyond = 0
    max_abs: float = 0
    max_relative = 0.0
    for x, y in zip(blocks(left), blocks(right), strict=True):
        differ = (as_bytes(x).view(-1, itemsize) != as_bytes(y).view(-1, itemsize)).any(dim=1)
        count = int(differ.sum())
        if count == 0:
            continue
        n_different += count
        found = _distance(_selected(x, differ), _selected(y, differ), atol, rtol)
        max_abs, max_relative = max(max_abs, found.max_abs), max(max_relative, found.max_relative)
        n_nan, n_beyond = n_nan + found.n_nan, n_beyond + found.n_beyond
    return TensorDifference(
        n_different=n_different, max_abs=max_abs, max_relative=max_relative, n_nan=n_nan, n_beyond=n_beyond
    )


def _selected(block: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Through bytes, as torch cannot index every dtype."""
    return as_bytes(block).view(-1, block.element_size())[where].contiguous().view(-1).view(block.dtype)


def _distance(x: torch.Tensor, y: torch.Tensor, atol: float, rtol: float) -> TensorDifference:
    """Of elements of which no two are the same bits."""
    n_different = x.numel()
    exact: int | None = None
    n_nan = 0
    if is_integral(x.dtype):
        exact, distances = _integer_distances(ordered_integers(x), ordered_integers(y))
        x, y = as_doubles(x), as_doubles(y)
    else:
        x, y = (value.to(torch.complex128) if value.dtype.is_complex else as_doubles(value) for value in (x, y))
        n_nan = int((x.isnan() ^ y.isnan()).sum())
        comparable = ~(x.isnan() | y.isnan() | (x == y))
        x, y = x[comparable], y[comparable]
        distances = (x - y).abs().nan_to_num(nan=math.inf, posinf=math.inf)
    ratios = _ratios(distances, x, y)
    largest = float(distances.max()) if distances.numel() else 0.0
    return TensorDifference(
        n_different=n_different,
        max_abs=largest if exact is None else exact,
        max_relative=float(ratios.max()) if ratios.numel() else 0.0,
        n_nan=n_nan,
        n_beyond=n_nan + int(((distances > atol) & (ratios > rtol)).sum()),
    )


def _integer_distances(x: torch.Tensor, y: torch.Tensor) -> tuple[int, torch.Tensor]:
    """The largest one, and all as doubles. One that does not fit int64 wraps around to what it is without a sign."""
    distances = torch.where(x >= y, x - y, y - x)
    wrapped = distances < 0
    largest = int(distances[wrapped].max()) + (1 << 64) if bool(wrapped.any()) else int(distances.max())
    return largest, distances.double() + wrapped.double() * 2.0**64


def _ratios(distances: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    larger = torch.maximum(x.abs(), y.abs())
    return torch.where(larger.isinf(), torch.ones_like(larger), distances / larger.clamp(min=5e-324))

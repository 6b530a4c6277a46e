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
    """

    n_different: int
    max_abs: float
    max_relative: float
    n_nan: int

    def is_within(self, *, atol: float, rtol: float) -> bool:
        """Whether no element is farther off than a tolerance allows, and NaN is where NaN was."""
        return not self.n_nan and (self.max_abs <= atol or self.max_relative <= rtol)


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


def tensor_difference(a: torch.Tensor, b: torch.Tensor) -> TensorDifference:
    """Compares two tensors of one dtype and shape.

    Example:
        >>> import torch
        >>> from sucrose.interchange.tensor_difference import tensor_difference
        >>> tensor_difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])).max_abs
        0.5
    """
    left, right = flat_dense(a), flat_dense(b)
    itemsize = left.element_size()
    n_different = n_nan = 0
    max_abs: float = 0
    max_relative = 0.0
    for x, y in zip(blocks(left), blocks(right), strict=True):
        differ = (as_bytes(x).view(-1, itemsize) != as_bytes(y).view(-1, itemsize)).any(dim=1)
        count = int(differ.sum())
        if count == 0:
            continue
        n_different += count
        absolute, relative, nans = _distance(_selected(x, differ), _selected(y, differ))
        max_abs, max_relative, n_nan = max(max_abs, absolute), max(max_relative, relative), n_nan + nans
    return TensorDifference(n_different=n_different, max_abs=max_abs, max_relative=max_relative, n_nan=n_nan)


def _selected(block: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Through bytes, as torch cannot index every dtype."""
    return as_bytes(block).view(-1, block.element_size())[where].contiguous().view(-1).view(block.dtype)


def _distance(x: torch.Tensor, y: torch.Tensor) -> tuple[float, float, int]:
    """The largest absolute and relative distance, and how many are NaN on one side."""
    if is_integral(x.dtype):
        absolute = _largest_distance(ordered_integers(x), ordered_integers(y))
        return absolute, _largest_ratio((as_doubles(x) - as_doubles(y)).abs(), as_doubles(x), as_doubles(y)), 0
    if x.dtype.is_complex:
        x, y = x.to(torch.complex128), y.to(torch.complex128)
    else:
        x, y = as_doubles(x), as_doubles(y)
    one_sided = int((x.isnan() ^ y.isnan()).sum())
    comparable = ~(x.isnan() | y.isnan() | (x == y))
    x, y = x[comparable], y[comparable]
    if not x.numel():
        return 0.0, 0.0, one_sided
    distances = (x - y).abs()
    return float(distances.nan_to_num(nan=math.inf, posinf=math.inf).max()), _largest_ratio(distances, x, y), one_sided


def _largest_distance(x: torch.Tensor, y: torch.Tensor) -> int:
    """Of int64 values: a difference that does not fit wraps around to what it is without a sign."""
    distances = torch.where(x >= y, x - y, y - x)
    if bool((distances < 0).any()):
        return int(distances[distances < 0].max()) + (1 << 64)
    return int(distances.max())


def _largest_ratio(distances: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> float:
    larger = torch.maximum(x.abs(), y.abs())
    ratios = torch.where(larger.isinf(), torch.ones_like(larger), distances / larger.clamp(min=5e-324))
    return float(ratios.max()) if ratios.numel() else 0.0

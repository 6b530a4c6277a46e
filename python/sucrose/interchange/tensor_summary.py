"""A tensor in a few numbers, in bounded memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sucrose.interchange.tensor_blocks import as_doubles, blocks, flat_dense, is_integral, ordered_integers

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN = 8
_UNSIGNED = {torch.uint16, torch.uint32, torch.uint64}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSummary:
    """What one looks at first.

    Attributes:
        dtype: torch's own name.
        shape: its sizes.
        numel: its elements.
        nbytes: of these.
        n_nan: elements that are NaN.
        n_inf: that are infinite, of either sign.
        n_zero: that are zero.
        minimum: of the finite elements; None where there is none, and for complex tensors.
        maximum: likewise.
        mean: of the finite elements, complex for complex tensors.
        std: their standard deviation, with n - 1 in the denominator; None for fewer than two.
        first: the first few elements.
    """

    dtype: str
    shape: tuple[int, ...]
    numel: int
    nbytes: int
    n_nan: int
    n_inf: int
    n_zero: int
    minimum: float | None
    maximum: float | None
    mean: complex | float | None
    std: float | None
    first: tuple[Any, ...]


def summarize(tensor: torch.Tensor) -> TensorSummary:
    """Goes over a dense tensor once, a block at a time, and calculates with doubles.

    Raises:
        UnsupportedError: it is not dense.

    Example:
        >>> import torch
        >>> from sucrose.interchange.tensor_summary import summarize
        >>> summary = summarize(torch.tensor([1.0, 2.0, float("nan")]))
        >>> summary.mean, summary.maximum, summary.n_nan
        (1.5, 2.0, 1)
    """
    flat = flat_dense(tensor)
    moments = _Moments()
    n_nan = n_inf = n_zero = 0
    minimum: float = math.inf
    maximum: float = -math.inf
    for block in blocks(flat):
        values = block.to(torch.complex128) if block.dtype.is_complex else as_doubles(block)
        finite = values
        if not is_integral(block.dtype):
            n_nan += int(values.isnan().sum())
            n_inf += int(values.isinf().sum())
            finite = values[values.isfinite()]
        n_zero += int((values == 0).sum())
        if finite.numel():
            moments.add(finite)
            if not finite.is_complex():
                minimum = min(minimum, _exact(block, torch.amin) if is_integral(block.dtype) else float(finite.min()))
                maximum = max(maximum, _exact(block, torch.amax) if is_integral(block.dtype) else float(finite.max()))
    return TensorSummary(
        dtype=str(tensor.dtype),
        shape=tuple(tensor.shape),
        numel=tensor.numel(),
        nbytes=tensor.nbytes,
        n_nan=n_nan,
        n_inf=n_inf,
        n_zero=n_zero,
        minimum=None if math.isinf(minimum) else minimum,
        maximum=None if math.isinf(maximum) else maximum,
        mean=moments.mean(),
        std=moments.std(),
        first=first_values(flat),
    )


def first_values(flat: torch.Tensor) -> tuple[Any, ...]:
    """The first few elements of a one-dimensional tensor, as Python has them."""
    few = flat[:_SHOWN]
    if few.dtype in _UNSIGNED:
        return tuple(value + (1 << 63) for value in ordered_integers(few).tolist())
    if few.dtype.is_floating_point and few.element_size() == 1:
        few = few.float()
    return tuple(few.tolist())


def _exact(block: torch.Tensor, extreme: Callable[[torch.Tensor], torch.Tensor]) -> int:
    shift = 1 << 63 if block.dtype in _UNSIGNED else 0
    return int(extreme(ordered_integers(block))) + shift


class _Moments:
    """Mean and sum of squares, put together from those of blocks: nothing cancels as in a plain sum of squares.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean: complex | float = 0.0
        self._squares = 0.0

    def add(self, values: torch.Tensor) -> None:
        """Adds a block."""
        count = values.numel()
        mean = values.mean().item()
        squares = float((values - mean).abs().square().sum())
        total = self._count + count
        step = mean - self._mean
        between = abs(step) * abs(step) * self._count * count / total if self._count else 0.0  # ** would overflow
        self._squares += squares + between
        self._mean += step * count / total
        self._count = total

    def mean(self) -> complex | float | None:
        """None where nothing was added."""
        return self._mean if self._count else None

    def std(self) -> float | None:
        """None for fewer than two values."""
        return math.sqrt(self._squares / (self._count - 1)) if self._count > 1 else None

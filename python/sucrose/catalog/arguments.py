"""Arguments of a save, checked before anything is begun."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch

from sucrose.errors import UnsupportedError

_MAX_STEP = (1 << 63) - 1


def checked_step(step: int, *, name: str = "step") -> int:
    """A step as a plain int.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is negative, or of more than 63 bits.
    """
    if isinstance(step, bool):
        raise TypeError(f"{name}={step!r}: expected a whole number")
    try:
        number = operator.index(step)
    except TypeError:
        raise TypeError(f"{name}={step!r} is a {type(step).__name__}, expected a whole number") from None
    if not 0 <= number <= _MAX_STEP:
        raise ValueError(f"{name}={number}: expected 0 to {_MAX_STEP}")
    return number


def checked_metrics(metrics: Mapping[str, float] | None) -> dict[str, float | str]:
    """Metrics as plain floats.

    Raises:
        TypeError: a name is no string, or a value no number.
        ValueError: a name cannot be written in UTF-8.
    """
    checked: dict[str, float | str] = {}
    for name, value in (metrics or {}).items():
        if not isinstance(name, str):
            raise TypeError(f"metrics has the name {name!r}; names must be str")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"metrics has the name {name!r}, which UTF-8 cannot express") from None
        try:
            checked[name] = _as_float(value)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"metrics[{name!r}]={value!r} is a {type(value).__name__}, expected a number") from None
    return checked


def refuse_increments(base: object, full_every: int | None) -> None:
    """For saves of several ranks, which are whole.

    Raises:
        UnsupportedError: this one is not to be.
    """
    if full_every is not None or base not in (None, "auto"):
        raise UnsupportedError(
            "full_every= and base= are for catalogs of one rank: what replicated values and shards have been before "
            "lies with other ranks. Save whole generations, compressed perhaps"
        )


def _as_float(value: Any) -> float:
    # A loss that still has its graph is a number all the same; torch warns of it.
    return float(value.detach() if isinstance(value, torch.Tensor) else value)

"""Whether two values that are no tensors are the same, and how to show them in a word."""

from __future__ import annotations

import math
from typing import Any

import torch

from sucrose.interchange.tensor_difference import are_same_bits

_SHOWN = 60
_SEQUENCES = (list, tuple)
_SETS = (set, frozenset)


def are_same(a: Any, b: Any) -> bool:  # noqa: PLR0911 - one for each kind of value
    """Whether two values are of one type and equal, containers item by item and tensors bit by bit.

    No method of a class that this package does not know is called: values of such a class are the same only where
    they are one object.

    Example:
        >>> from sucrose.interchange.value_difference import are_same
        >>> are_same((1, float("nan")), (1, float("nan"))), are_same(1, True)
        (True, False)
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.layout is b.layout and _tensors_equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(are_same(a[key], b[key]) for key in a)
    if isinstance(a, _SEQUENCES):
        return len(a) == len(b) and all(map(are_same, a, b))
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if type(a).__module__ in ("builtins", "torch", "collections", "datetime", "decimal", "pathlib"):
        return bool(a == b)
    return hasattr(a, "__dict__") and are_same(vars(a), vars(b))


def shown(value: Any) -> str:
    """A value in a line, cut where it is long.

    Example:
        >>> from sucrose.interchange.value_difference import shown
        >>> shown((0.9, 0.999)), shown({"b", "a"}), shown(b"x" * 100)
        ('(0.9, 0.999)', "{'a', 'b'}", "b'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…")
    """
    if _is_plain(value):
        text = _set_text(value) if type(value) in _SETS else repr(value)
    else:
        text = f"{type(value).__module__}.{type(value).__qualname__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _set_text(value: Any) -> str:
    """In an order that does not change from one process to the next."""
    items = f"{{{', '.join(sorted(map(repr, value)))}}}" if value else ""
    return items if items and type(value) is set else f"{type(value).__name__}({items})"


def _is_plain(value: Any) -> bool:
    if isinstance(value, _SEQUENCES):
        return len(value) <= _SHOWN and all(map(_is_plain, value))
    if type(value) in _SETS:
        return len(value) <= _SHOWN and all(map(_is_plain, value))
    if isinstance(value, dict):
        return len(value) <= _SHOWN and all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return value is None or type(value) in (
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        torch.dtype,
        torch.device,
        torch.Size,
    )


def _tensors_equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.layout is torch.strided and not a.is_nested:
        return are_same_bits(a, b)
    if a.layout is torch.sparse_coo:
        a, b = a.coalesce(), b.coalesce()
        return are_same_bits(a.indices(), b.indices()) and are_same_bits(a.values(), b.values())
    return bool(torch.equal(a, b))

"""Whether two values are the same, bit for bit: what a round trip must preserve.

Unlike ``==`` it tells -0.0 from 0.0, one NaN from another, 1 from True and a dict from an
OrderedDict; unlike `torch.equal` it takes every dtype and layout.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import torch


def raw_bytes(tensor: torch.Tensor) -> bytes:
    """The elements of a dense tensor in row-major order."""
    packed = tensor.detach().cpu().resolve_conj().resolve_neg()
    if not packed.is_contiguous():
        packed = elementwise_bytes(packed).contiguous()
    return ctypes.string_at(packed.data_ptr(), packed.nbytes) if packed.nbytes else b""


def elementwise_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """The same elements as integers or pairs of them, for dtypes that torch cannot even copy."""
    carrier = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}
    return tensor.view(carrier[tensor.element_size()])


def assert_same(actual: Any, expected: Any, where: str = "value") -> None:
    """Raises AssertionError, naming the place, where the two differ in type or in any bit."""
    assert type(actual) is type(expected), f"{where}: {type(actual)} instead of {type(expected)}"
    if isinstance(expected, torch.Tensor):
        _assert_same_tensor(actual, expected, where)
    elif isinstance(expected, dict):
        assert [(type(key), key) for key in actual] == [(type(key), key) for key in expected], f"{where}: other keys"
        for key, value in expected.items():
            assert_same(actual[key], value, f"{where}[{key!r}]")
    elif isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected), f"{where}: {len(actual)} items instead of {len(expected)}"
        for index, value in enumerate(expected):
            assert_same(actual[index], value, f"{where}[{index}]")
    elif isinstance(expected, float):
        assert struct.pack("<d", actual) == struct.pack("<d", expected), f"{where}: {actual} != {expected}"
    else:
        assert actual == expected, f"{where}: {actual!r} != {expected!r}"


def _assert_same_tensor(actual: torch.Tensor, expected: torch.Tensor, where: str) -> None:
    assert actual.dtype == expected.dtype, f"{where}: {actual.dtype} instead of {expected.dtype}"
    assert actual.layout == expected.layout, f"{where}: {actual.layout} instead of {expected.layout}"
    if expected.is_nested:
        assert_same(list(actual.unbind()), list(expected.unbind()), where)
        return
    assert actual.shape == expected.shape, f"{where}: {actual.shape} instead of {expected.shape}"
    if expected.layout is torch.sparse_coo:
        parts = [(t._indices(), t._values()) for t in (actual, expected)]
        assert_same(*parts, where)
    elif expected.layout is not torch.strided:
        by_row = expected.layout in (torch.sparse_csr, torch.sparse_bsr)
        names = ("crow_indices", "col_indices") if by_row else ("ccol_indices", "row_indices")
        for name in (*names, "values"):
            assert_same(getattr(actual, name)(), getattr(expected, name)(), f"{where}.{name}()")
    elif expected.is_quantized:
        assert_same(_quantized_parts(actual), _quantized_parts(expected), where)
    else:
        assert raw_bytes(actual) == raw_bytes(expected), f"{where}: other bits"


def _quantized_parts(tensor: torch.Tensor) -> list[Any]:
    if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
        return [tensor.int_repr(), tensor.q_scale(), tensor.q_zero_point()]
    scales, zeros = tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points()
    return [tensor.int_repr(), scales, zeros, tensor.q_per_channel_axis()]

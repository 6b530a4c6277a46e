"""Headers of safetensors files that anybody may have written: parsed, and checked against the file's length.

Source: https://github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from sucrose.errors import CorruptionError, UnsupportedError
from sucrose.formats.limits import MAX_DIMENSION, MAX_HEADER_NBYTES, MAX_NDIM
from sucrose.formats.safetensors import DTYPE_NAMES

NEWER_DTYPE_NAMES = {
    "torch.uint16": "U16",
    "torch.uint32": "U32",
    "torch.uint64": "U64",
    "torch.complex64": "C64",
    "torch.float8_e4m3fnuz": "F8_E4M3FNUZ",
    "torch.float8_e5m2fnuz": "F8_E5M2FNUZ",
    "torch.float8_e8m0fnu": "F8_E8M0",
}
"""Names that safetensors has had since 0.5 to 0.7; one that a reader does not know makes it refuse the file."""

_TORCH_NAMES = {name: dtype for dtype, name in (*DTYPE_NAMES.items(), *NEWER_DTYPE_NAMES.items())}
_ITEMSIZES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTensor:
    """One tensor of a file.

    Attributes:
        dtype: torch's own name, e.g. ``"torch.float32"``.
        shape: its sizes.
        begin: of its bytes in the file.
        end: behind them.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a file says of itself: its tensors by name, in its order, and the free text beside them."""

    tensors: dict[str, FileTensor]
    metadata: dict[str, str]


def header_nbytes(head: bytes, *, file_nbytes: int, path: str) -> int:
    """Length of the header whose first eight bytes are `head`, themselves not counted.

    Raises:
        CorruptionError: no header of that length can be there.
    """
    nbytes = int.from_bytes(head, "little")
    if len(head) != 8 or nbytes > min(MAX_HEADER_NBYTES, file_nbytes - 8):
        raise CorruptionError(
            f"{path} has {file_nbytes} bytes, too few for the header of {nbytes} bytes that it begins with; or it is "
            f"no safetensors file (headers have at most {MAX_HEADER_NBYTES})",
            path=path,
        )
    return nbytes


def decode_header(data: bytes, *, file_nbytes: int, path: str) -> Header:
    """Parses a header.

    Args:
        data: the header's bytes, without its length.
        file_nbytes: of the whole file.
        path: of the file, for messages.

    Raises:
        CorruptionError: it is malformed, or its tensors do not fill the file one after another.
        UnsupportedError: a dtype that torch does not have.

    Example:
        >>> from sucrose.formats.safetensors_header import decode_header
        >>> header = b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
        >>> decode_header(header, file_nbytes=8 + len(header) + 8, path="w.safetensors").tensors["w"].shape
        (2,)
    """
    try:
        content = json.loads(data, object_pairs_hook=_without_duplicates)
        if not isinstance(content, dict):
            raise ValueError("not an object")  # noqa: TRY004 - of the file, not of an argument
        metadata = content.pop("__metadata__", None) or {}
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("__metadata__ is more than text")
        tensors = {name: _tensor(name, fields, 8 + len(data)) for name, fields in content.items()}
    except (ValueError, RecursionError) as error:
        raise CorruptionError(f"{path} has no header of a safetensors file: {error}", path=path) from error
    except UnsupportedError as error:
        raise UnsupportedError(f"{path}: {error}", path=path, key=error.key) from None
    at = 8 + len(data)
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != at:
            raise CorruptionError(
                f"{path}: {name!r} begins at offset {tensor.begin}, expected {at}, where the tensor before it ends",
                path=path,
                key=name,
                offset=tensor.begin,
            )
        at = tensor.end
    if at != file_nbytes:
        raise CorruptionError(f"{path} has {file_nbytes} bytes, its header expects {at}", path=path, offset=at)
    return Header(tensors=tensors, metadata=metadata)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name is there twice")
    return result


def _tensor(name: str, fields: Any, data_begin: int) -> FileTensor:
    if not isinstance(fields, dict) or not {"dtype", "shape", "data_offsets"} <= set(fields):
        raise ValueError(f"{name!r} is no tensor")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
    if not all(type(number) is int and 0 <= number <= MAX_DIMENSION for number in numbers) or len(offsets) != 2:
        raise ValueError(f"{name!r} has the shape {shape!r} and the offsets {offsets!r}")
    if len(shape) > MAX_NDIM:
        raise ValueError(f"{name!r} has {len(shape)} dimensions, at most {MAX_NDIM} are possible")
    if not isinstance(dtype, str) or dtype not in _TORCH_NAMES:
        raise UnsupportedError(f"{name!r} has the dtype {dtype!r}, which is not known here", key=name)
    begin, end = offsets
    nbytes = math.prod(shape) * _ITEMSIZES.get(dtype, 1)
    if end - begin != nbytes:
        raise ValueError(f"{name!r} has {end - begin} bytes, expected {nbytes} for {dtype} {shape}")
    return FileTensor(dtype=_TORCH_NAMES[dtype], shape=tuple(shape), begin=data_begin + begin, end=data_begin + end)

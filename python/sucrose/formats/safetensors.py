"""Headers of safetensors files: what makes our data files readable by other tools.

A file is the length of the header (8 bytes, little-endian), the header (JSON), and the tensors,
one after another without holes. We pad the header with spaces so that the tensors begin on a block
boundary, which direct I/O and mapped readers like.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

BLOCK_NBYTES = 4096

# The names that readers have known from the start; one unknown name makes them refuse the file.
DTYPE_NAMES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}


class HeaderEntry(msgspec.Struct, gc=False):
    """One tensor of the header."""

    name: str
    dtype: str
    """As torch writes it, e.g. ``"torch.float32"``."""
    shape: list[int]
    nbytes: int


class _Tensor(msgspec.Struct, gc=False):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def entry_nbytes_bound(entry: HeaderEntry) -> int:
    """At most this many bytes of header for one tensor."""
    return 6 * len(entry.name) + 20 * len(entry.shape) + 100


def encode_header(entries: Sequence[HeaderEntry]) -> bytes:
    """Length and header for tensors that follow in this order. Names must be unique.

    A dtype that safetensors has no name for is listed as bytes: shape ``[nbytes]``, dtype U8.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for entry in entries:
        known = DTYPE_NAMES.get(entry.dtype)
        end = begin + entry.nbytes
        if known is None:
            header[entry.name] = _Tensor("U8", [entry.nbytes], (begin, end))
        else:
            header[entry.name] = _Tensor(known, entry.shape, (begin, end))
        begin = end
    text = msgspec.json.encode(header)
    padded = -(-(8 + len(text)) // BLOCK_NBYTES) * BLOCK_NBYTES
    return (padded - 8).to_bytes(8, "little") + text.ljust(padded - 8)

"""The header of a safetensors file."""

from __future__ import annotations

from contextlib import suppress

from sucrose.errors import SucroseError
from sucrose.formats.safetensors import HeaderEntry, encode_header
from sucrose.formats.safetensors_header import decode_header, header_nbytes


def seeds() -> dict[str, bytes]:
    """Headers as we write them, with what follows them."""
    entries = [
        HeaderEntry("model/weight", "torch.float32", [2, 3], 24),
        HeaderEntry("model/odd", "torch.complex128", [1], 16),
        HeaderEntry("model/empty", "torch.bool", [0], 0),
    ]
    texts = {"ours": (encode_header(entries)[8:].rstrip(), 40), "none": (encode_header([])[8:].rstrip(), 0)}
    return {name: len(text).to_bytes(8, "little") + text + bytes(rest) for name, (text, rest) in texts.items()}


def check(data: bytes) -> None:
    """Tensors of an accepted header lie one after another and fill the file."""
    with suppress(SucroseError):
        nbytes = header_nbytes(data[:8], file_nbytes=len(data), path="file")
        header = decode_header(data[8 : 8 + nbytes], file_nbytes=len(data), path="file")
        at = 8 + nbytes
        for tensor in sorted(header.tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
            assert tensor.begin == at
            at = tensor.end
        assert at == len(data)

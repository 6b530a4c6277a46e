"""What is in a safetensors file, from its header alone: no torch, no tensor is read."""

from __future__ import annotations

import json
import os
from dataclasses import replace

from sucrose.errors import CorruptionError
from sucrose.formats.limits import MAX_DIMENSION, MAX_NDIM
from sucrose.formats.safetensors_header import decode_header, header_nbytes
from sucrose.interchange.listing import Listed, tensor_nbytes

DTYPES = "sucrose.dtypes"
"""Member of `__metadata__`: dtype and shape of tensors that the format can only hold as bytes, as JSON by name."""
TIED = "sucrose.tied"
"""Which tensors were the same memory: JSON, a name to the first one's."""
SEPARATOR = "sucrose.separator"
"""What stands between keys in the names, where they were joined from nested ones."""


def list_safetensors(path: str) -> tuple[dict[str, Listed], dict[str, str]]:
    """Tensors by name, in the file's order, and the free text of the header.

    Returns:
        Entries whose `place` is the range of bytes in the file, and `__metadata__`.

    Raises:
        CorruptionError: the header is malformed, or does not go with the file's length.

    Example:
        >>> import torch
        >>> from safetensors.torch import save_file
        >>> from sucrose.interchange.safetensors_listing import list_safetensors
        >>> save_file({"w": torch.ones(2)}, "/tmp/w.safetensors")
        >>> list_safetensors("/tmp/w.safetensors")[0]["w"].dtype
        'torch.float32'
    """
    file_nbytes = os.path.getsize(path)
    with open(path, "rb") as file:
        nbytes = header_nbytes(file.read(8), file_nbytes=file_nbytes, path=path)
        header = decode_header(file.read(nbytes), file_nbytes=file_nbytes, path=path)
    entries = {
        name: Listed(
            path=name,
            type="Tensor",
            dtype=tensor.dtype,
            shape=tensor.shape,
            nbytes=tensor.end - tensor.begin,
            place=(tensor.begin, tensor.end),
            files=(os.path.basename(path),),
        )
        for name, tensor in header.tensors.items()
    }
    for name, (dtype, shape) in _real_dtypes(header.metadata, path).items():
        entry = entries.get(name)
        if entry is not None and tensor_nbytes(dtype, shape) == entry.nbytes:
            entries[name] = replace(entry, dtype=dtype, shape=shape)
    return entries, header.metadata


def _real_dtypes(metadata: dict[str, str], path: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    try:
        found = json.loads(metadata.get(DTYPES, "{}"))
        real = {name: (str(dtype), tuple(map(int, shape))) for name, (dtype, shape) in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptionError(f"{path}: {DTYPES!r} in its header is broken: {error}", path=path) from error
    for _, shape in real.values():
        if len(shape) > MAX_NDIM or not all(0 <= size <= MAX_DIMENSION for size in shape):
            raise CorruptionError(f"{path}: {DTYPES!r} in its header has a shape that no tensor has", path=path)
    return real

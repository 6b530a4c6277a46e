"""Writing a safetensors file: tensors by name and nothing else.

Tied tensors are stored once for each name, as every reader expects, and their ties noted beside them. A dtype that the
format has no name for is stored as bytes, and noted as well; `sucrose convert` makes both good again.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import torch

from sucrose.engine import get_engine
from sucrose.errors import UnsupportedError
from sucrose.formats.limits import MAX_HEADER_NBYTES
from sucrose.formats.safetensors import BLOCK_NBYTES, DTYPE_NAMES
from sucrose.formats.safetensors_header import NEWER_DTYPE_NAMES
from sucrose.interchange.flat_names import NESTED, joined_names
from sucrose.interchange.losses import empty_containers, gradient_notes, note, sharing_notes
from sucrose.interchange.safetensors_listing import DTYPES, SEPARATOR, TIED
from sucrose.interchange.trees import bytes_identity, is_container, leaves_of
from sucrose.snapshot.plan import order_by_alignment
from sucrose.snapshot.single_file import temporary_beside, write_replacing
from sucrose.snapshot.tensors import DTYPE_NAMES as TORCH_NAMES
from sucrose.snapshot.tensors import Kind as StorageKind
from sucrose.snapshot.tensors import extents_of, kind_of, source_memory

if TYPE_CHECKING:
    from sucrose.interchange.target import Target
    from sucrose.snapshot.tensors import Memory

_NAMES = {**DTYPE_NAMES, **NEWER_DTYPE_NAMES}


def write_safetensors(tree: Any, target: Target) -> list[str]:
    """Writes the tensors of `tree`, one after another, through the engine; none is copied as a whole.

    Returns:
        What the file cannot hold.

    Raises:
        UnsupportedError: two tensors would have the same name.
    """
    leaves = leaves_of(tree)
    tensors = {path: value for path, value in leaves.items() if _is_storable(path, value)}
    names = joined_names(tensors, target.separator)
    engine = get_engine()
    memories = {names[path]: source_memory(tensor.detach(), engine) for path, tensor in tensors.items()}
    order = list(memories)
    order = [order[at] for at in order_by_alignment([memories[name].tensor.element_size() for name in order])]
    is_nested = any("/" in path for path in tensors)
    metadata = _metadata(tensors, names, memories, target.separator if is_nested else None)
    header = _encoded(order, memories, metadata)
    path = os.path.realpath(target.path)
    extents = extents_of([memories[name] for name in order], header=header)
    write_replacing(engine, path, temporary_beside(path), extents, durable=True)
    return _notes(leaves, tensors, memories, target.separator)


def _is_storable(path: str, value: Any) -> bool:
    return isinstance(value, torch.Tensor) and kind_of(value, path) is StorageKind.DENSE


def _metadata(
    tensors: dict[str, torch.Tensor], names: dict[str, str], memories: dict[str, Memory], separator: str | None
) -> dict[str, str]:
    metadata = {"format": "pt"}
    if separator is not None:
        metadata[SEPARATOR] = separator
    first_at: dict[object, str] = {}
    ties = {}
    for path, tensor in tensors.items():
        identity = bytes_identity(tensor)
        name = names[path]
        first = first_at.setdefault(identity, name) if identity is not None else name
        if first != name and tensor.dtype == memories[first].dtype and tensor.shape == memories[first].tensor.shape:
            ties[name] = first
    if ties:
        metadata[TIED] = json.dumps(ties)
    as_bytes = {
        name: (TORCH_NAMES[memory.dtype], list(memory.tensor.shape))
        for name, memory in memories.items()
        if TORCH_NAMES[memory.dtype] not in _NAMES
    }
    if as_bytes:
        metadata[DTYPES] = json.dumps(as_bytes)
    return metadata


def _encoded(order: list[str], memories: dict[str, Memory], metadata: dict[str, str]) -> bytes:
    """Length and header, padded so that the tensors begin on a block."""
    header: dict[str, Any] = {"__metadata__": metadata}
    begin = 0
    for name in order:
        if name == "__metadata__":
            raise UnsupportedError("a tensor called '__metadata__' has no place in a safetensors file", key=name)
        memory = memories[name]
        end = begin + memory.nbytes
        dtype = _NAMES.get(TORCH_NAMES[memory.dtype])
        shape = list(memory.tensor.shape) if dtype is not None else [memory.nbytes]
        header[name] = {"dtype": dtype or "U8", "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_NBYTES - BLOCK_NBYTES:
        raise UnsupportedError(
            f"the names of {len(order)} tensors take {len(text)} bytes, and readers of safetensors refuse headers of "
            f"more than {MAX_HEADER_NBYTES}"
        )
    padded = -(-(8 + len(text)) // BLOCK_NBYTES) * BLOCK_NBYTES
    return (padded - 8).to_bytes(8, "little") + text.ljust(padded - 8)


def _notes(
    leaves: dict[str, Any], tensors: dict[str, torch.Tensor], memories: dict[str, Memory], separator: str
) -> list[str]:
    empty = empty_containers(leaves)
    others = [path for path, value in leaves.items() if path not in tensors and not is_container(value)]
    as_bytes = [name for name, memory in memories.items() if TORCH_NAMES[memory.dtype] not in _NAMES]
    notes = note(
        others, "value is left out, as it is no dense tensor", "values are left out, as they are no dense tensors"
    )
    notes += note(empty, "empty container is left out", "empty containers are left out")
    if any("/" in path for path in tensors):
        notes.append(f"the format has no nesting: names are keys joined with {separator!r}")
        lists = separator == NESTED and any(segment.isdecimal() for path in tensors for segment in path.split("/"))
        notes += ["places in lists, and keys that are numbers, become text"] if lists else []
    one = "tensor is stored as bytes, as the format has no name for its dtype"
    notes += note(as_bytes, one, "tensors are stored as bytes, as the format has no names for their dtypes")
    return notes + sharing_notes(tensors, ties_survive=True) + gradient_notes(tensors)

"""Nested state to a flat manifest and back.

Exactly dict, OrderedDict and list are containers; any other value is a leaf. A leaf's logical path
is the keys that lead to it, joined with ``/``; ``%`` and ``/`` inside a key are percent-encoded. A
dict whose keys are not all str or int, or that collide once they are text, is a leaf itself.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import torch

from sucrose.errors import UnsupportedError
from sucrose.formats.limits import MAX_NESTING
from sucrose.formats.manifest import (
    DictEntry,
    Entry,
    ListEntry,
    OrderedDictEntry,
    PrimitiveEntry,
)

_CONTAINERS = frozenset({dict, OrderedDict, list})
_PRIMITIVE_TYPES = frozenset({int, float, bool, str, bytes})
_MAX_INT_BITS = 8192  # beyond, decimal text is slow and limited; such a number is an object


@dataclass(slots=True)
class FlatState:
    """Nested state, taken apart. Paths begin with the rank."""

    entries: dict[str, Entry] = field(default_factory=dict)
    """Containers and primitives; each container before what is in it."""
    tensors: list[tuple[str, torch.Tensor]] = field(default_factory=list)
    objects: list[tuple[str, Any]] = field(default_factory=list)
    state_dict_metadata: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """`_metadata` of module state dicts: versions of the modules in them."""


def encode_key(key: int | str) -> str:
    """One segment of a logical path."""
    text = key if type(key) is str else str(key)
    if "%" in text or "/" in text:
        return text.replace("%", "%25").replace("/", "%2F")
    return text


def flatten(value: Any, path: str, flat: FlatState) -> None:
    """Adds `value`, which stands at `path`, to `flat`.

    Raises:
        UnsupportedError: containers are nested too deeply, or contain themselves.
    """
    try:
        _flatten(value, path, flat)
    except RecursionError:
        raise UnsupportedError(f"{path!r} is nested too deeply to be saved, or contains itself", key=path) from None


def _flatten(value: Any, path: str, flat: FlatState) -> None:
    kind = type(value)
    if isinstance(value, torch.Tensor):
        flat.tensors.append((path, value))
    elif kind in _CONTAINERS and path.count("/") > MAX_NESTING:
        raise UnsupportedError(f"{path[:200]!r} is nested more than {MAX_NESTING} deep, or contains itself", key=path)
    elif (kind is dict or kind is OrderedDict) and _keys_make_paths(value):
        if kind is dict:
            flat.entries[path] = DictEntry(list(value))
        else:
            _add_ordered_dict(value, path, flat)
        for key, item in value.items():
            child = f"{path}/{encode_key(key)}"
            if type(item) is torch.Tensor:  # nearly all are; saves a call for each
                flat.tensors.append((child, item))
            else:
                _flatten(item, child, flat)
    elif kind is list:
        flat.entries[path] = ListEntry()
        for index, item in enumerate(value):
            _flatten(item, f"{path}/{index}", flat)
    elif kind in _PRIMITIVE_TYPES and _fits_manifest(value):
        flat.entries[path] = PrimitiveEntry.from_value(value)  # type: ignore[assignment]  # one of its subclasses
    else:
        flat.objects.append((path, value))


def _add_ordered_dict(value: OrderedDict[int | str, Any], path: str, flat: FlatState) -> None:
    """All of it but its values."""
    flat.entries[path] = OrderedDictEntry(list(value))
    metadata = getattr(value, "_metadata", None)
    if metadata is not None and _is_plain_metadata(metadata):
        flat.state_dict_metadata[path] = {k: dict(v) for k, v in metadata.items()}


def _keys_make_paths(mapping: dict[Any, Any]) -> bool:
    kinds = set(map(type, mapping))
    if kinds <= {str}:
        return all(map(_is_encodable, mapping))
    if not kinds <= {str, int}:
        return False
    if not all(map(_fits_manifest, mapping)):
        return False
    texts = {str(key) for key in mapping}
    return len(texts) == len(mapping)


def _is_encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates have no place in JSON
        return False
    return True


def _fits_manifest(value: Any) -> bool:
    if type(value) is int:
        return value.bit_length() <= _MAX_INT_BITS
    return type(value) is not str or _is_encodable(value)


def _is_plain_metadata(metadata: Any) -> bool:
    """Whether `_metadata` is what torch makes: module names to versions."""
    return isinstance(metadata, dict) and all(
        type(name) is str
        and isinstance(fields, dict)
        and all(type(k) is str and (v is None or type(v) in (int, str, bool, float)) for k, v in fields.items())
        for name, fields in metadata.items()
    )

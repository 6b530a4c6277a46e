"""Nested state in memory: its values by path, and parts of it.

Paths are those of snapshots (snapshot/flatten.py): exactly dict, OrderedDict and list are containers.
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch

from sucrose.errors import StateMismatchError
from sucrose.interchange.listing import Listed, text_nbytes
from sucrose.snapshot.flatten import encode_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PRIMITIVES = frozenset({int, float, bool, str, bytes})


def leaves_of(tree: Any) -> dict[str, Any]:
    """All values that are no containers, and containers that are empty, by path.

    Example:
        >>> from sucrose.interchange.trees import leaves_of
        >>> leaves_of({"model": {"a/b": 1}, "betas": [0.9, 0.99]})
        {'model/a%2Fb': 1, 'betas/0': 0.9, 'betas/1': 0.99}
    """
    leaves: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:  # not by recursion: files may be nested deeper than Python's calls
        path, value = waiting.pop()
        items = list(_items(value)) if value is tree or is_container(value) else []
        if items:
            prefix = f"{path}/" if value is not tree else ""
            waiting.extend((f"{prefix}{encode_key(key)}", item) for key, item in reversed(items))
        else:
            leaves[path] = value
    return leaves


def mapped_leaves(tree: Any, change: Callable[[str, Any], Any], path: str = "") -> Any:
    """A copy of the containers in which each leaf is what `change` makes of (path, leaf)."""
    prefix = f"{path}/" if path else ""
    if type(tree) is list and is_container(tree):
        return [mapped_leaves(item, change, f"{prefix}{number}") for number, item in enumerate(tree)]
    if is_container(tree):
        copied = type(tree)(
            (key, mapped_leaves(item, change, f"{prefix}{encode_key(key)}")) for key, item in tree.items()
        )
        if hasattr(tree, "_metadata"):
            copied._metadata = tree._metadata  # noqa: SLF001 - versions of modules: nn.Module looks for them there
        return copied
    return change(path, tree)


def is_container(value: Any) -> bool:
    """Whether a snapshot would store what is in it one by one."""
    kind = type(value)
    if kind is list:
        return True
    if kind is not dict and kind is not OrderedDict:
        return False
    kinds = set(map(type, value))
    return kinds <= {str, int} and len({str(key) for key in value}) == len(value)


def below(tree: Any, key: str | None, path: str) -> Any:
    """What a tree has under `key`; all of it for None.

    Raises:
        StateMismatchError: it has no such key; the message lists near ones.
    """
    if key is None:
        return tree
    if isinstance(tree, dict) and key in tree:
        return tree[key]
    raise no_such_key(path, key, [str(name) for name in tree] if isinstance(tree, dict) else [])


def no_such_key(path: str, key: str, names: list[str]) -> StateMismatchError:
    """What to tell whoever asks for a part that is not there."""
    near = difflib.get_close_matches(key, names, n=3) or names[:3]
    hint = f"; there is {', '.join(map(repr, near))}" if near else ""
    return StateMismatchError(f"{path} has no {key!r}{hint}", path=path, key=key)


def listed_value(path: str, value: Any) -> Listed:
    """What a listing has of a leaf in memory."""
    kind = type(value)
    if isinstance(value, torch.Tensor):
        return Listed(
            path=path,
            type="Tensor" if kind in (torch.Tensor, torch.nn.Parameter) else kind.__name__,
            dtype=str(value.dtype),
            shape=tuple(value.shape),
            nbytes=value.numel() * value.element_size(),
            place=bytes_identity(value),
        )
    if kind in _PRIMITIVES:
        return Listed(path=path, type=kind.__name__, nbytes=text_nbytes(value), value=value)
    if is_container(value):
        return Listed(path=path, type=kind.__name__)
    return Listed(path=path, type="object", detail=f"{kind.__module__}.{kind.__qualname__}")


def bytes_identity(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """Equal for tensors that are the same bytes in the same order; the storage comes first. None where unknown."""
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.numel() == 0:
        return None
    storage = tensor.untyped_storage()
    begin = tensor.storage_offset() * tensor.element_size()
    strides = () if tensor.is_contiguous() else (tuple(tensor.shape), tensor.stride())
    return storage._cdata, begin, tensor.nbytes, strides  # noqa: SLF001 - torch has no other name for a storage


def _items(value: Any) -> Iterator[tuple[int | str, Any]]:
    if type(value) is list:
        yield from enumerate(value)
    elif is_container(value):
        yield from value.items()

"""What two checkpoints differ in, whatever kinds they are, tensor by tensor.

What listings tell is compared first: values that only one side has, and tensors of other shapes or dtypes, are not
read. The others are read side by side, a group of at most `GROUP_NBYTES` at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sucrose.errors import UnsafeObjectError
from sucrose.interchange.tensor_difference import TensorDifference, are_same_bits, tensor_difference
from sucrose.interchange.trees import no_such_key
from sucrose.interchange.value_difference import are_same, shown
from sucrose.snapshot.flatten import encode_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sucrose.interchange.listing import Listed
    from sucrose.interchange.sources import Source

GROUP_NBYTES = 128 << 20
"""How much is read of each side before it is compared; a larger tensor is a group of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One value that is not the same on both sides.

    Attributes:
        path: where it is.
        kind: ``"added"``, ``"removed"`` or ``"changed"``.
        before: what the first side has; None where it has nothing.
        after: what the second side has.
        was: the first side's value, in a word; empty for tensors, and where the listing tells.
        now: the second side's.
        difference: of two tensors of one dtype and shape.
    """

    path: str
    kind: str
    before: Listed | None
    after: Listed | None
    was: str = ""
    now: str = ""
    difference: TensorDifference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The outcome: changes in the order of the first side, and how many values are the same."""

    changes: tuple[Change, ...]
    n_same: int


def compare(a: Source, b: Source, *, key: str | None = None, atol: float = 0.0, rtol: float = 0.0) -> Comparison:
    """Compares two opened checkpoints, bit for bit or within a tolerance.

    Args:
        a: the first one.
        b: the second one.
        key: compare what is below this key only, on the side or sides that have it: a stateful of a snapshot with a
            file that has nothing else.
        atol: a distance between two elements that does not count.
        rtol: the same, as a part of the larger one.

    Raises:
        StateMismatchError: neither side has `key`.
        CorruptionError: one side is damaged.

    Example:
        >>> import sucrose, torch
        >>> from sucrose.interchange.differences import compare
        >>> from sucrose.interchange.sources import open_source
        >>> for name, value in (("/tmp/a.pt", 1.0), ("/tmp/b.pt", 1.5)):
        ...     sucrose.save({"w": torch.full((3,), value), "step": 7}, name)
        >>> comparison = compare(open_source("/tmp/a.pt"), open_source("/tmp/b.pt"))
        >>> [(change.path, change.kind, change.difference.max_abs) for change in comparison.changes]
        [('w', 'changed', 0.5)]
    """
    left, right = _below(a, key), _below(b, key)
    if key is not None and left.keys() == {*a.entries()} and right.keys() == {*b.entries()}:
        names = dict.fromkeys(path.partition("/")[0] for path in (*left, *right))
        if key not in names:
            raise no_such_key(f"neither {a.path} nor {b.path}", key, list(names))
    changes: dict[str, Change] = {}
    candidates: list[str] = []
    for path, entry in left.items():
        other = right.get(path)
        if other is None:
            changes[path] = Change(path=path, kind="removed", before=entry, after=None, was=_object_word(a, entry))
        elif _differ_by_listing(entry, other):
            was, now = _word(entry), _word(other)
            changes[path] = Change(path=path, kind="changed", before=entry, after=other, was=was, now=now)
        elif entry.is_tensor or "object" in (entry.type, other.type):
            candidates.append(path)
    for group in _groups(candidates, left):
        values = zip(
            a.read([_full(left, path) for path in group]), b.read([_full(right, path) for path in group]), strict=True
        )
        for path, (x, y) in zip(group, values, strict=True):
            change = _compared(path, left[path], right[path], x, y, atol, rtol)
            if change is not None:
                changes[path] = change
    ordered = [changes[path] for path in left if path in changes]
    ordered += [
        Change(path=path, kind="added", before=None, after=entry, now=_object_word(b, entry))
        for path, entry in right.items()
        if path not in left
    ]
    return Comparison(changes=tuple(ordered), n_same=len(left) - len(changes))


def _below(source: Source, key: str | None) -> dict[str, Listed]:
    """Values by their path below the key; all of them where nothing is below it."""
    entries = source.entries()
    prefix = f"{encode_key(key)}/" if key is not None else ""
    found = {path.removeprefix(prefix): entry for path, entry in entries.items() if path.startswith(prefix)}
    return found or dict(entries)


def _full(entries: Mapping[str, Listed], path: str) -> str:
    return entries[path].path


def _differ_by_listing(a: Listed, b: Listed) -> bool:
    if a.is_tensor or b.is_tensor:
        return (a.dtype, a.shape) != (b.dtype, b.shape)
    if a.type == "object" or b.type == "object":
        return False  # a primitive may be an object where the kind has no primitives
    if {a.type, b.type} == {"dict", "OrderedDict"}:
        return False  # both empty; of those that are not, nobody asks either
    return a.type != b.type or not are_same(a.value, b.value)


def _word(entry: Listed) -> str:
    if entry.is_tensor:
        return ""
    if entry.type in ("dict", "OrderedDict", "list"):
        return f"empty {entry.type}"
    return entry.detail or entry.type if entry.type == "object" else shown(entry.value)


def _object_word(source: Source, entry: Listed) -> str:
    """Of an object that has nothing to be compared with; empty where only pickle could tell, or it is no object."""
    if entry.type != "object":
        return ""
    try:
        [value] = source.read([entry.path])
    except UnsafeObjectError:
        return ""
    return shown(value)


def _groups(paths: list[str], entries: Mapping[str, Listed]) -> Iterator[list[str]]:
    group: list[str] = []
    nbytes = 0
    for path in paths:
        size = entries[path].nbytes or 0
        if group and nbytes + size > GROUP_NBYTES:
            yield group
            group, nbytes = [], 0
        group.append(path)
        nbytes += size
    if group:
        yield group


def _compared(path: str, a: Listed, b: Listed, x: Any, y: Any, atol: float, rtol: float) -> Change | None:
    dense = all(isinstance(value, torch.Tensor) and value.layout is torch.strided for value in (x, y))
    if not dense or x.is_nested or y.is_nested:
        if are_same(x, y):
            return None
        return Change(path=path, kind="changed", before=a, after=b, was=shown(x), now=shown(y))
    if are_same_bits(x, y):
        return None
    difference = tensor_difference(x, y, atol=atol, rtol=rtol)
    if (atol or rtol) and not difference.n_beyond:
        return None
    return Change(path=path, kind="changed", before=a, after=b, difference=difference)

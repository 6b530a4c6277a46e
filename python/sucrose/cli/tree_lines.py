"""Values with paths as the lines of a tree: names under names, and sums beside those that have others below them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sucrose.formats.limits import MAX_NESTING
from sucrose.interchange.listing import Listed, without_torch_prefix
from sucrose.overview.text import nbytes_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_GUIDES = ("├── ", "└── ", "│   ", "    ")
_PLAIN_GUIDES = ("|-- ", "`-- ", "|   ", "    ")
_SHOWN_VALUE = 40

SORTS = ("name", "size", "dtype")
"""What a tree can be sorted by; otherwise it is in the order of the checkpoint."""


@dataclass(slots=True)
class Node:
    """A value, or what lies below a name.

    Attributes:
        name: the last key of its path, as text.
        value: None for what only has others below it.
        below: by name.
    """

    name: str
    value: Listed | None = None
    below: dict[str, Node] = field(default_factory=dict)

    def values(self) -> Iterator[Listed]:
        """Its own and all below it."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            if node.value is not None:
                yield node.value
            waiting.extend(node.below.values())

    def nbytes(self) -> int:
        """Of all values, tied ones once."""
        return sum({value.place or value.path: value.nbytes or 0 for value in self.values()}.values())


def tree_of(entries: Iterable[Listed], *, with_ranks: bool) -> Node:
    """The tree of paths; with the ranks above all else where there are several."""
    root = Node("")
    for entry in entries:
        node = root
        for segment in [*([f"rank {entry.rank}"] if with_ranks else []), *entry.path.split("/", MAX_NESTING)]:
            name = segment.replace("%2F", "/").replace("%25", "%")
            node = node.below.setdefault(name, Node(name))
        node.value = entry
    return root


def tree_rows(root: Node, *, sort: str | None, depth: int | None) -> list[tuple[str, str, str, str]]:
    """Rows of a table: the name behind the tree's lines, dtype or type, shape or value, size.

    Args:
        root: it has no row of its own.
        sort: one of `SORTS`.
        depth: how many levels to show; what is below them is summed up. None for all.
    """
    guides = _GUIDES if _can_be_encoded("".join(_GUIDES)) else _PLAIN_GUIDES
    rows: list[tuple[str, str, str, str]] = []
    waiting = [(node, "", is_last, 1) for node, is_last in reversed(_in_order(root, sort))]
    while waiting:
        node, indent, is_last, level = waiting.pop()
        is_cut = bool(node.below) and level == depth
        rows.append((f"{indent}{guides[is_last]}{node.name}", *_cells(node, is_cut=is_cut)))
        if not is_cut:
            deeper = f"{indent}{guides[2 + is_last]}"
            waiting += [(child, deeper, last, level + 1) for child, last in reversed(_in_order(node, sort))]
    return rows


def _in_order(node: Node, sort: str | None) -> Sequence[tuple[Node, bool]]:
    """What is right below a node, each with whether it is the last one."""
    nodes = list(node.below.values())
    if sort == "name":
        nodes.sort(key=lambda child: child.name)
    elif sort == "size":
        nodes.sort(key=lambda child: child.nbytes(), reverse=True)
    elif sort == "dtype":
        nodes.sort(key=lambda child: (_kind(child.value), child.name))
    return [(child, child is nodes[-1]) for child in nodes]


def _cells(node: Node, *, is_cut: bool) -> tuple[str, str, str]:
    value = node.value
    if value is not None and not node.below:
        size = "" if value.nbytes is None else nbytes_text(value.nbytes)
        return _kind(value), shape_text(value), size
    if not is_cut:
        return "", "", ""
    values = list(node.values())
    tensors = sum(value.is_tensor for value in values)
    others = sum(not value.is_tensor and value.same_as is None for value in values)
    counts = [
        f"{count} {noun}{'' if count == 1 else 's'}"
        for count, noun in ((tensors, "tensor"), (others, "value"))
        if count
    ]
    if tensors + others < len(values):
        counts.append("others replicated")
    return "", ", ".join(counts), nbytes_text(node.nbytes())


def shape_text(value: Listed) -> str:
    """Sizes of a tensor, the value of a primitive, the class of an object, where a replicated value stands."""
    if value.same_as is not None:
        return f"as {value.same_as}"
    if value.shape is not None:
        return str(list(value.shape))
    if value.type in ("object", "dict", "OrderedDict", "list"):
        return value.detail or "empty"
    text = repr(value.value)
    return text if len(text) <= _SHOWN_VALUE else f"{text[: _SHOWN_VALUE - 3]}..."


def _kind(value: Listed | None) -> str:
    if value is None:
        return ""
    return without_torch_prefix(value.dtype) if value.dtype is not None else value.type


def _can_be_encoded(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True

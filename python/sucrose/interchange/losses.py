"""What a kind of checkpoint cannot hold, in sentences: a conversion says what does not survive it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sucrose.interchange.trees import bytes_identity, is_container

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SHOWN = 3


def note(paths: Iterable[str], one: str, many: str) -> list[str]:
    """At most one sentence: a number, what it is about, and the first few paths.

    Example:
        >>> from sucrose.interchange.losses import note
        >>> note(["a", "b"], "value is left out", "values are left out")
        ["2 values are left out: 'a', 'b'"]
    """
    kept = list(paths)
    if not kept:
        return []
    names = ", ".join(map(repr, kept[:_SHOWN])) + (", …" if len(kept) > _SHOWN else "")
    return [f"{len(kept)} {one if len(kept) == 1 else many}: {names}"]


def empty_containers(leaves: Mapping[str, Any]) -> list[str]:
    """Paths of dicts and lists with nothing in them."""
    return [path for path, value in leaves.items() if is_container(value)]


def gradient_notes(leaves: Mapping[str, Any]) -> list[str]:
    """About Parameters and tensors that require a gradient, for kinds that hold bytes only."""
    paths = [path for path, value in leaves.items() if isinstance(value, torch.Tensor) and value.requires_grad]
    return note(paths, "tensor no longer requires a gradient", "tensors no longer require a gradient")


def sharing_notes(leaves: Mapping[str, Any], *, ties_survive: bool) -> list[str]:
    """About tensors that share memory with another one, for kinds that store tensors one by one.

    Args:
        leaves: values by path.
        ties_survive: whether tensors that are the very same bytes come out as one.
    """
    storages: set[object] = set()
    identities: set[object] = set()
    apart = []
    for path, value in leaves.items():
        identity = bytes_identity(value) if isinstance(value, torch.Tensor) else None
        if identity is None:
            continue
        storage = identity[0]
        is_tied = identity in identities
        if storage in storages and not (ties_survive and is_tied):
            apart.append(path)
        storages.add(storage)
        identities.add(identity)
    one = "tensor shares memory with another one, and comes out separate"
    return note(apart, one, "tensors share memory with others, and come out separate")

"""Which object of the program gets which of the saved states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sucrose.autopatch.registry import kind_of


def match(saved: Iterable[str], living: Mapping[str, Any], is_root: Callable[[str], bool]) -> dict[str, str]:
    """Maps names of saved states to names of living objects.

    The same names belong together. What is left of a kind is paired in the order in which it was made: a program
    that copies its best model now and then does so more or less often in a replay, which computes other values.

    Args:
        saved: names of states.
        living: objects by name.
        is_root: whether an object may get a state that has another name.

    Example:
        >>> from sucrose.autopatch.matching import match
        >>> match(["Net.0", "Net.3"], {"Net.0": "model", "Net.1": "best"}, lambda name: True)
        {'Net.0': 'Net.0', 'Net.3': 'Net.1'}
    """
    saved = list(saved)
    pairs = {key: key for key in saved if key in living}
    left: dict[str, list[str]] = {}
    for key in living:
        if key not in pairs and is_root(key):
            left.setdefault(kind_of(key), []).append(key)
    for key in saved:
        others = left.get(kind_of(key))
        if key not in pairs and others:
            pairs[key] = others.pop(0)
    return pairs

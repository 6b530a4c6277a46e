"""Which generations refer to which: pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sucrose.catalog.generation import Generation


def with_bases(ids: Iterable[str], generations: Iterable[Generation]) -> set[str]:
    """The ids, and those of all generations that they cannot do without."""
    bases = {generation.id: generation.bases for generation in generations}
    found: set[str] = set()
    waiting = list(ids)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += bases.get(one, ())
    return found


def dependents_of(generations: Iterable[Generation]) -> dict[str, list[str]]:
    """For each generation, by id, the ids of those that refer to it."""
    found: dict[str, list[str]] = defaultdict(list)
    for generation in generations:
        for base in generation.bases:
            found[base].append(generation.id)
    return found


def remove_in_order(chosen: Sequence[Generation], remove: Callable[[Generation], bool]) -> None:
    """Calls `remove` for each one, after all that refer to it are removed; not at all where one of them stays.

    Args:
        chosen: with them all that refers to them.
        remove: says whether it did.
    """
    by_id = {generation.id: generation for generation in chosen}
    dependents: dict[str, int] = defaultdict(int)
    for generation in chosen:
        for base in generation.bases:
            dependents[base] += 1
    ready = [generation for generation in chosen if not dependents[generation.id]]
    while ready:
        generation = ready.pop()
        if not remove(generation):
            continue
        for base in generation.bases:
            dependents[base] -= 1
            if not dependents[base] and base in by_id:
                ready.append(by_id[base])

"""Removing what retention does not keep, and what crashes have left.

1. The generations are chosen that no rule keeps, and that those which are kept do not refer to. Nothing is done to
   them unless the newest one is sound and durable: a power cut or a damaged disk must not take that one after the
   older ones are gone.
2. Each is moved to ``.trash`` in one step, unless somebody is reading it, has pinned it meanwhile, or refers to it:
   whoever refers to others goes before them.
3. Everything in ``.trash`` is removed, and so are the hidden directories of dead writers. What a crash
   leaves is found by the next collection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sucrose.catalog.references import remove_in_order, with_bases
from sucrose.catalog.soundness import damage_of
from sucrose.errors import SignatureError, SucroseError

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation, GenerationLease
    from sucrose.catalog.retention import Retention

_T = TypeVar("_T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectReport:
    """What a collection did, or would do.

    Attributes:
        removed: generations that no rule keeps, oldest first.
        in_use: generations that no rule keeps, but that are being read or have been pinned just now, or that
            snapshots elsewhere refer to; and those that they refer to.
        needed: generations that no rule keeps, but that those refer to that are kept.
        leftovers: names of hidden directories that were removed, of dead writers and earlier collections.
        nbytes: of `removed`.
        blocked: why no generation could be removed; None where nothing was in the way.
        dry_run: whether nothing was done.
    """

    removed: tuple[Generation, ...]
    in_use: tuple[Generation, ...]
    needed: tuple[Generation, ...]
    leftovers: tuple[str, ...]
    nbytes: int
    blocked: str | None
    dry_run: bool


def collect(directory: CatalogDirectory, retention: Retention, *, dry_run: bool = False) -> CollectReport:
    """Collects one catalog. Other processes may save, read and collect in it meanwhile.

    Raises:
        OSError: the folder cannot be read, or something in it cannot be removed.
    """
    leftovers = directory.leftovers()
    errors: list[OSError] = []
    generations, newest_lease = ((), None) if retention.keeps_all else _list_with_lease(directory)
    with newest_lease or nullcontext():  # the newest is there for as long as older ones go
        kept = retention.kept(generations)
        needed = with_bases(kept, generations)
        chosen = [generation for generation in generations if generation.id not in needed]
        blocked = _prepare(directory, generations, dry_run=dry_run) if chosen else None
        if blocked is not None:
            logger.warning("no generation of %s is removed: %s", directory.root, blocked)
            chosen = []
        removed = _removed(chosen, directory.is_unused if dry_run else directory.discard, errors)
    earlier = set(leftovers)
    leftovers = _those(leftovers, directory.is_abandoned if dry_run else directory.remove, errors)
    if removed and not dry_run:
        _those([name for name in directory.leftovers() if name not in earlier], directory.remove, errors)
    if errors:
        raise errors[0]
    gone = {generation.id for generation in removed}
    return CollectReport(
        removed=tuple(removed),
        in_use=tuple(generation for generation in chosen if generation.id not in gone),
        needed=tuple(generation for generation in generations if generation.id in needed - kept),
        leftovers=tuple(leftovers),
        nbytes=sum(generation.nbytes for generation in removed),
        blocked=blocked,
        dry_run=dry_run,
    )


def _list_with_lease(directory: CatalogDirectory) -> tuple[tuple[Generation, ...], GenerationLease | None]:
    """All generations, oldest first, and a lease on the newest, if there is any."""
    generations = directory.listing().generations
    lease = generations[-1].lease() if generations else None
    while generations and lease is None:  # another process has a newer one, and has collected this one
        generations = directory.listing().generations
        lease = generations[-1].lease() if generations else None
    return generations, lease


def _removed(
    chosen: list[Generation], is_removed: Callable[[Generation], bool], errors: list[OSError]
) -> list[Generation]:
    """Those that could be removed, oldest first."""
    gone: set[str] = set()

    def remove(generation: Generation) -> bool:
        if _those([generation], is_removed, errors):
            gone.add(generation.id)
        return generation.id in gone

    remove_in_order(chosen, remove)
    return [generation for generation in chosen if generation.id in gone]


def _those(candidates: Sequence[_T], is_so: Callable[[_T], bool], errors: list[OSError]) -> list[_T]:
    """Those for which `is_so` is true. One that fails does not hold up the others."""
    found = []
    for candidate in candidates:
        try:
            if is_so(candidate):
                found.append(candidate)
        except OSError as error:
            errors.append(error)
    return found


def _prepare(directory: CatalogDirectory, generations: Sequence[Generation], *, dry_run: bool) -> str | None:
    """Makes sure that the newest generation outlives the older ones; why it does not, or None."""
    newest = generations[-1]
    try:
        directory.check(newest, contents=False)
    except SignatureError as error:
        return f"the newest one may be somebody else's: {error}"
    except (SucroseError, OSError) as error:
        damage = damage_of(error, newest.path, newest.base_paths())
        if damage is None:
            raise
        return f"the newest one is broken: {damage}"
    needed = with_bases([newest.id], generations)
    for generation in generations if not dry_run else ():
        if generation.id in needed and not generation.durable:
            directory.make_durable(generation)
    return None

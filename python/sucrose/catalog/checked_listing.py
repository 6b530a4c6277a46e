"""A listing that tells what is broken as `Catalog.latest` would find it, and moves nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sucrose.catalog.generation import Generation, Unusable
from sucrose.errors import FormatVersionError, SucroseError

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.listing import Listing


def checked_listing(directory: CatalogDirectory) -> Listing:
    """All generations, each of them checked but for the contents of its large files.

    One that cannot be read for a reason that is not its own, such as missing rights, is among the broken ones,
    too: it must not keep people from seeing the others.

    Raises:
        OSError: the folder, or a record, cannot be read.
    """
    listing = _try_check(directory, directory.listing())
    while listing is None:  # what was removed meanwhile may have a successor that is not among the names
        listing = _try_check(directory, directory.listing())
    return listing


def _try_check(directory: CatalogDirectory, listing: Listing) -> Listing | None:
    """None where something was moved or removed after it was listed."""
    sound: list[Generation] = []
    broken = list(listing.broken)
    newer = list(listing.newer)
    for generation in listing.generations:
        try:
            directory.check(generation, contents=False)
        except (SucroseError, OSError) as error:
            if directory.is_gone(generation.id):
                return None
            unusable = newer if isinstance(error, FormatVersionError) else broken
            unusable.append(Unusable(name=generation.id, reason=" ".join(str(error).split())))
        else:
            sound.append(generation)
    return replace(listing, generations=tuple(sound), broken=tuple(broken), newer=tuple(newer))

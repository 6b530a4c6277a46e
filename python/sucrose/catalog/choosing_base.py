"""Which generation a save refers to."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sucrose.catalog.generation import Generation
from sucrose.errors import ConfigError, FormatVersionError, SucroseError
from sucrose.storage import is_url

if TYPE_CHECKING:
    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import GenerationLease

logger = logging.getLogger(__name__)

Base = Generation | int | Literal["newest", "auto"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenBase:
    """A generation, kept from being removed until the save has a lease of its own."""

    generation: Generation
    lease: GenerationLease


def check_full_every(full_every: object) -> int | None:
    """The option of `Catalog`, checked.

    Raises:
        ConfigError: it is not.
    """
    if full_every is None:
        return None
    if isinstance(full_every, bool) or not isinstance(full_every, int) or full_every < 1:
        raise ConfigError(f"full_every={full_every!r}: expected a whole number from 1, or None: every save is whole")
    return full_every


def check_may_refer(root: str, given: str) -> None:
    """Refuses what would make generations refer to each other where they cannot.

    Args:
        root: of the catalog.
        given: the argument, for the message.

    Raises:
        ConfigError: the catalog is in an object store.
    """
    if is_url(root):
        raise ConfigError(
            f"{given}: generations in object stores are whole, and this catalog is at {root!r}. Leave it out, compress "
            "perhaps, or save to a file system"
        )


def newest_base(directory: CatalogDirectory, *, max_increments: int | None) -> ChosenBase | None:
    """The newest generation; None where the save has to be whole.

    That is where there is none, where so many have followed a whole one, or where it cannot be referred to, because it
    is broken, or not signed with a key that is set: the log tells of that, and it is the business of whoever restores.

    Raises:
        FormatVersionError: a newer release has written it.
    """
    record = directory.newest_record()
    if record is None or (max_increments is not None and record.increments >= max_increments):
        return None
    generation = directory.generation(record, pinned=record.pinned)
    try:
        with ExitStack() as until_checked:
            lease = generation.lease()
            if lease is None:
                return None
            until_checked.enter_context(lease)
            directory.check(generation, contents=False)
            until_checked.pop_all()
    except FormatVersionError:
        raise
    except (SucroseError, OSError) as error:
        logger.warning("%s cannot be referred to, so that everything is saved: %s", generation.path, error)
        return None
    return ChosenBase(generation=generation, lease=lease)

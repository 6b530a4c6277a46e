"""What lies in a catalog's folder, as far as names and records tell."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from sucrose.catalog.generation import Generation, Unusable
from sucrose.catalog.soundness import damage_of, is_ours
from sucrose.errors import CorruptionError, FormatVersionError
from sucrose.formats.generation import GENERATION_FILE, GenerationRecord, decode_generation
from sucrose.formats.limits import MAX_GENERATION_NBYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.storage import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A catalog at one moment.

    Attributes:
        generations: the complete ones, oldest first.
        broken: directories of the catalog whose `.generation` is damaged.
        newer: those that a newer release wrote.
        foreign: those that only look like generations: copies, and snapshots of others.
    """

    generations: tuple[Generation, ...]
    broken: tuple[Unusable, ...]
    newer: tuple[Unusable, ...]
    foreign: tuple[Unusable, ...]


def read_record(files: Directory) -> GenerationRecord:
    """The record of one generation.

    Raises:
        CorruptionError: it is damaged.
        FormatVersionError: a newer release wrote it.
        OSError: it cannot be read.
    """
    data = files.read(GENERATION_FILE, MAX_GENERATION_NBYTES)
    return decode_generation(data, path=files.path_of(GENERATION_FILE))


def listing_of(
    directory: CatalogDirectory, found: Iterable[tuple[str, GenerationRecord | Exception]]
) -> Listing | None:
    """Sorts out what was found in the folder.

    Args:
        directory: of the catalog.
        found: names of folders that may be generations', with the record, or the error of reading it.

    Returns:
        None where something was moved or removed after its name was read: what was removed may have had a successor
        that is not among the names.

    Raises:
        OSError: a record cannot be read, for a reason that is not its own.
    """
    generations: list[Generation] = []
    broken: list[Unusable] = []
    newer: list[Unusable] = []
    foreign: list[Unusable] = []
    marks = directory.pins.marks()
    for name, record in found:
        if isinstance(record, FormatVersionError):
            newer.append(Unusable(name=name, reason=str(record)))
        elif isinstance(record, (CorruptionError, OSError)):
            damage = damage_of(record, directory.path_of(name))
            if damage is None:
                raise record
            if directory.is_gone(name):
                return None
            if not isinstance(record, FileNotFoundError) or is_ours(directory.files_of(name)):
                broken.append(Unusable(name=name, reason=damage))
            else:
                foreign.append(Unusable(name=name, reason=f"has no {GENERATION_FILE}"))
        elif isinstance(record, Exception):
            raise record
        elif record.id == name:
            generations.append(directory.generation(record, pinned=marks.get(name, record.pinned)))
        else:
            foreign.append(Unusable(name=name, reason=f"is a copy of {record.id}"))
    return Listing(
        generations=tuple(sorted(generations, key=attrgetter("order"))),
        broken=tuple(broken),
        newer=tuple(newer),
        foreign=tuple(foreign),
    )


def first_line(reason: bytes) -> str:
    """What the file in quarantine says."""
    return reason.partition(b"\n")[0].decode("utf-8", "backslashreplace").strip()

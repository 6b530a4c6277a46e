"""What lies in a catalog's folder, by one look at its names and one small read for each generation."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from sucrose.catalog.generation import Generation, Quarantined, Unusable, generation_of
from sucrose.catalog.names import QUARANTINE, REASON_FILE, TRASH, is_generation_name, is_temporary_name
from sucrose.catalog.pins import Pins
from sucrose.catalog.soundness import damage_of, is_ours
from sucrose.errors import CorruptionError, FormatVersionError
from sucrose.formats.generation import GENERATION_FILE, GenerationRecord, decode_generation
from sucrose.formats.limits import MAX_GENERATION_NBYTES, MAX_REASON_NBYTES
from sucrose.storage import LocalDirectory

if TYPE_CHECKING:
    from sucrose.formats.signing_keys import Signer


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


def generation_names(root: str) -> list[str]:
    """Names that may be generations'; none where there is no folder."""
    try:
        with os.scandir(root) as entries:
            return [
                entry.name
                for entry in entries
                if is_generation_name(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []


def list_generations(root: str, pins: Pins, signer: Signer | None = None) -> Listing:
    """Reads all records. Neither the order nor the times of the folder's entries matter.

    No signature is looked at; `signer` goes along with the generations, for whoever reads them.
    """
    listing = _try_list(root, pins, signer)
    while listing is None:  # what was removed meanwhile may have had a successor that is not among the names
        listing = _try_list(root, pins, signer)
    return listing


def _try_list(root: str, pins: Pins, signer: Signer | None) -> Listing | None:
    """None where something was moved or removed after its name was read."""
    generations: list[Generation] = []
    broken: list[Unusable] = []
    newer: list[Unusable] = []
    foreign: list[Unusable] = []
    marks = pins.marks()
    for name in generation_names(root):
        try:
            record = read_record(root, name)
        except FormatVersionError as error:
            newer.append(Unusable(name=name, reason=str(error)))
        except (CorruptionError, OSError) as error:
            path = os.path.join(root, name)
            damage = damage_of(error, path)
            if damage is None:
                raise
            if is_gone(path):
                return None
            if not isinstance(error, FileNotFoundError) or is_ours(LocalDirectory(path)):
                broken.append(Unusable(name=name, reason=damage))
            else:
                foreign.append(Unusable(name=name, reason=f"has no {GENERATION_FILE}"))
        else:
            if record.id == name:
                pinned = marks.get(name, record.pinned)
                generations.append(generation_of(record, os.path.join(root, name), pinned=pinned, signer=signer))
            else:
                foreign.append(Unusable(name=name, reason=f"is a copy of {record.id}"))
    return Listing(
        generations=tuple(sorted(generations, key=attrgetter("order"))),
        broken=tuple(broken),
        newer=tuple(newer),
        foreign=tuple(foreign),
    )


def is_gone(path: str) -> bool:
    """Whether there is no directory at the path any more; unlike `os.path.isdir` it does not take a guess.

    Raises:
        OSError: nobody can tell, and looking again would not help.
    """
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True


def read_record(root: str, name: str) -> GenerationRecord:
    """The record in one directory.

    Raises:
        CorruptionError: it is damaged.
        FormatVersionError: a newer release wrote it.
        OSError: it cannot be read.
    """
    storage = LocalDirectory(os.path.join(root, name))
    data = storage.read(GENERATION_FILE, MAX_GENERATION_NBYTES)
    return decode_generation(data, path=storage.path_of(GENERATION_FILE))


def list_quarantined(root: str) -> list[Quarantined]:
    """What is in quarantine, by name."""
    folder = os.path.join(root, QUARANTINE)
    found = []
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        path = os.path.join(folder, name)
        if is_generation_name(name) and os.path.isdir(path):
            reason = "unknown: it was not written down"
            with suppress(OSError, CorruptionError):
                reason = _first_line(LocalDirectory(path).read(REASON_FILE, MAX_REASON_NBYTES))
            found.append(Quarantined(name=name, path=path, reason=reason))
    return found


def _first_line(data: bytes) -> str:
    return data.partition(b"\n")[0].decode("utf-8", "backslashreplace").strip()


def leftover_names(root: str) -> list[str]:
    """Hidden directories of unfinished saves, and what collections have not removed yet; relative to `root`.

    A save that is under way has one, too: whoever removes them asks for a lease first.
    """
    names: list[str] = []
    with suppress(FileNotFoundError), os.scandir(root) as entries:
        names += [
            entry.name for entry in entries if is_temporary_name(entry.name) and entry.is_dir(follow_symlinks=False)
        ]
    trash = os.path.join(root, TRASH)
    if not os.path.islink(trash):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(trash) as entries:
            names += [
                os.path.join(TRASH, entry.name)
                for entry in entries
                if (is_generation_name(entry.name) or is_temporary_name(entry.name))
                and entry.is_dir(follow_symlinks=False)
            ]
    return sorted(names)

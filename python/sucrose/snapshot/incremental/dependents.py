"""Who refers to a snapshot: notes in its folder, so that nobody replaces or removes what others need.

1. Before a snapshot with bases is committed, each of them gets a file in `.dependents`, with the path from there to
   the new one. The new one's writer has a lease on the base meanwhile, so that nobody removes it.
2. Whoever wants to replace or remove a snapshot looks whether those that are noted are there, and refer to it. A note
   proves nothing by itself: its writer may have died before the commit, and what it names may have been replaced.
3. A base that cannot be written to has no notes. Then the user has to know.

No torch is needed here.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from xxhash import xxh3_64_hexdigest

from sucrose.engine import CHUNK_NBYTES, get_engine
from sucrose.errors import SucroseError
from sucrose.formats.index import INDEX_FILE, decode_index
from sucrose.formats.limits import MAX_INDEX_NBYTES
from sucrose.storage import LocalDirectory

logger = logging.getLogger(__name__)

DEPENDENTS = ".dependents"
_MAX_NOTE_NBYTES = 4096


def note_dependent(base: str, dependent: str) -> list[str]:
    """Notes at the snapshot `base` that `dependent` will refer to it; paths to be fsynced."""
    folder = os.path.join(base, DEPENDENTS)
    parent, name = os.path.split(os.path.abspath(dependent))
    there = os.fsencode(os.path.relpath(os.path.join(os.path.realpath(parent), name), os.path.realpath(base)))
    path = os.path.join(folder, xxh3_64_hexdigest(there))
    try:
        with suppress(FileExistsError):
            os.mkdir(folder)
        with open(path, "wb") as file:
            file.write(there)
    except OSError as error:
        logger.info("%s cannot be told that %s refers to it: %s", base, dependent, error)
        return []
    return [path, folder, base]


def dependents(base: str) -> list[str]:
    """Paths of the snapshots that are noted at `base` and really refer to it."""
    folder = os.path.join(base, DEPENDENTS)
    found = []
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        note = os.path.join(folder, name)
        with suppress(FileNotFoundError), open(note, "rb") as file:
            there = os.path.normpath(os.path.join(os.path.realpath(base), os.fsdecode(file.read(_MAX_NOTE_NBYTES))))
            if _refers(there, base):
                found.append(there)
    return found


def _refers(dependent: str, base: str) -> bool:
    storage = LocalDirectory(dependent)
    try:
        data = storage.read(INDEX_FILE, MAX_INDEX_NBYTES)
        index = decode_index(data, get_engine().digest, chunk_nbytes=CHUNK_NBYTES, path=storage.path_of(INDEX_FILE))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (SucroseError, OSError):  # damaged, or of a newer release: better too careful
        return True
    return any(os.path.realpath(os.path.join(dependent, name)) == os.path.realpath(base) for name in index.bases)

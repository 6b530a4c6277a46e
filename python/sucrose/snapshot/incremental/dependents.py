"""Who refers to a snapshot: notes in its folder, so that nobody replaces or removes what others need.

1. Before a snapshot with bases is committed, each of them gets a file in `.dependents`, with the path from there to
   the new one. The new one's writer has a lease on the base meanwhile, so that nobody removes it.
2. Whoever wants to replace or remove a snapshot looks whether those that are noted are there, and refer to it. A note
   proves nothing by itself: its writer may have died before the commit, and what it names may have been replaced.
3. The one who refers has a lease on the base's commit record from the note to the commit, the one who replaces has it
   alone from the look to the rename: so either sees what the other has done.
4. A base that may not be written to has no notes. Then the user has to know.

No torch is needed here.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

from xxhash import xxh3_64_hexdigest

from sucrose.engine import CHUNK_NBYTES, get_engine
from sucrose.errors import CorruptionError, IncompleteSnapshotError, StorageError, SucroseError
from sucrose.formats.index import INDEX_FILE, decode_index
from sucrose.formats.limits import MAX_INDEX_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.storage import LocalDirectory
from sucrose.storage.leases import Lease, lease_of_file
from sucrose.storage.regular_file import read_regular
from sucrose.storage.replacing import replace_file

logger = logging.getLogger(__name__)

DEPENDENTS = ".dependents"
_MAX_NOTE_NBYTES = 4096
_NOT_OURS_TO_WRITE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR})
_PATIENCE_S = 10.0
"""Whoever is about to refer is so for as long as a commit takes."""


def note_dependent(base: str, dependent: str) -> list[str]:
    """Notes at the snapshot `base` that `dependent` will refer to it; paths to be fsynced.

    Raises:
        OSError: there is no room for it, or the disk does not work.
    """
    folder = os.path.join(base, DEPENDENTS)
    parent, name = os.path.split(os.path.abspath(dependent))
    there = os.fsencode(os.path.relpath(os.path.join(os.path.realpath(parent), name), os.path.realpath(base)))
    path = os.path.join(folder, xxh3_64_hexdigest(there))
    try:
        with suppress(FileExistsError):
            os.mkdir(folder)
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "no directory", folder)
        # In one step: an older snapshot of the same name may rely on the note that is there. Whatever that is:
        # nothing is written through a link, and no pipe is waited for.
        replace_file(path, there, _without_sync)
    except OSError as error:
        if error.errno not in _NOT_OURS_TO_WRITE:
            raise
        logger.info("%s cannot be told that %s refers to it: %s", base, dependent, error)
        return []
    return [path, folder, base]


def lease_to_refer(base: str) -> Lease:
    """For whoever is about to refer to the snapshot `base`, until that is committed.

    Raises:
        IncompleteSnapshotError: it is gone, or is being replaced just now.
    """
    path = os.path.join(base, METADATA_FILE)
    held = lease_of_file(path, alone=False)
    if held is None:
        raise IncompleteSnapshotError(
            errno.ENOENT,
            "the snapshot here is gone, or is being replaced just now: nothing can refer to it",
            base,
            path=base,
        )
    return held


@contextmanager
def while_nobody_refers(base: str) -> Iterator[None]:
    """Inside of it nobody comes to refer to the snapshot `base`, if there is one.

    Raises:
        StorageError: somebody has been about to for ten seconds (EBUSY).
    """
    path = os.path.join(base, METADATA_FILE)
    until = time.monotonic() + _PATIENCE_S
    held = None
    while os.path.lexists(path) and (held := lease_of_file(path, alone=True)) is None:
        if time.monotonic() > until:
            why = "a snapshot that refers to this one is being committed: try again later"
            raise StorageError(errno.EBUSY, why, base, path=base)
        time.sleep(0.01)
    with held or nullcontext():
        yield


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
        if os.path.islink(note):  # is no note
            continue
        with suppress(FileNotFoundError, IsADirectoryError, CorruptionError):  # nor is what is too long, or no file
            there = os.fsdecode(read_regular(note, _MAX_NOTE_NBYTES))
            there = os.path.normpath(os.path.join(os.path.realpath(base), there))
            if "\0" not in there and _refers(there, base):
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


def _without_sync(paths: Sequence[str]) -> None:
    """The commit syncs the note."""

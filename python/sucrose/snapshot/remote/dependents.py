"""Snapshots that refer to one in an object store: they were copied there with it, and with the notes of who refers."""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import TYPE_CHECKING

from sucrose.errors import CorruptionError, SucroseError
from sucrose.snapshot.contents import load_metadata
from sucrose.snapshot.incremental.dependents import DEPENDENTS
from sucrose.storage.objects.directory import ObjectDirectory

if TYPE_CHECKING:
    from sucrose.storage.objects import Storage

_MAX_NOTE_NBYTES = 4096


def refuse_object_dependents(storage: Storage) -> None:
    """Refuses to replace a snapshot that others refer to.

    Raises:
        FileExistsError: there are any.
        StorageError: the store does not answer.
    """
    for note in storage.list(f"{DEPENDENTS}/"):
        with suppress(CorruptionError, FileNotFoundError, UnicodeDecodeError):  # proves nothing
            dependent = storage.beside(storage.read(note.name, _MAX_NOTE_NBYTES).decode())
            if _refers(dependent, storage.url):
                raise FileExistsError(
                    errno.EEXIST,
                    f"{dependent.url} needs this snapshot, which must not be replaced: save elsewhere",
                    storage.url,
                )


def _refers(dependent: Storage, url: str) -> bool:
    try:
        _, index = load_metadata(ObjectDirectory(dependent), dependent.url)
    except FileNotFoundError:
        return False
    except SucroseError as error:  # damaged, or of a newer release: better too careful
        if isinstance(error, OSError):
            raise
        return True
    return index is not None and any(dependent.beside(base).url == url for base in index.bases)

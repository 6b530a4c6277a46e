"""What a snapshot in an object store consists of that is about to be replaced."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sucrose.errors import IncompleteSnapshotError, SucroseError
from sucrose.formats.index import index_names
from sucrose.formats.limits import MAX_METADATA_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.signature import signature_names
from sucrose.snapshot.contents import load_metadata
from sucrose.snapshot.verify import ranges_by_file
from sucrose.storage.objects.directory import ObjectDirectory

if TYPE_CHECKING:
    from sucrose.storage.objects import Storage

logger = logging.getLogger(__name__)


def replaced_files(storage: Storage) -> frozenset[str]:
    """Names of its files, but for the commit record; none where there is no snapshot, or one that nobody can read.

    Raises:
        StorageError: the store does not answer.
    """
    directory = ObjectDirectory(storage)
    try:
        record = storage.read(METADATA_FILE, MAX_METADATA_NBYTES)
        metadata, index = load_metadata(directory, storage.url)
    except (FileNotFoundError, IncompleteSnapshotError):
        return frozenset()
    except SucroseError as error:
        if isinstance(error, OSError):
            raise
        logger.warning("%s is replaced, and what it consisted of stays, as nobody can tell: %s", storage.url, error)
        return frozenset()
    files = ranges_by_file(metadata) if index is None else index.own_files()
    own = (name for name in files if not name.startswith("../"))
    return frozenset({*own, *index_names(record), *signature_names(record)})

"""Whether a take may put a snapshot at a URL, and whether its files are there."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sucrose.errors import ReadOnlyStorageError, StorageError
from sucrose.formats.manifest import METADATA_FILE
from sucrose.snapshot.remote.dependents import refuse_object_dependents
from sucrose.snapshot.remote.names import tagged_folders

if TYPE_CHECKING:
    from sucrose.snapshot.collective.parts import Part
    from sucrose.storage.objects import Storage


def check_object_target(storage: Storage, *, overwrite: bool) -> None:
    """Refuses a URL at which a snapshot must not be put. What interrupted takes have left there is no obstacle.

    Raises:
        FileExistsError: there is a snapshot, and it is not to be replaced, or others refer to it.
        ReadOnlyStorageError: nothing can be put there.
        StorageError: the store does not answer.
    """
    if storage.is_read_only:
        raise ReadOnlyStorageError(
            errno.EROFS, f"{storage.url} is for reading only: choose another URL", storage.url, path=storage.url
        )
    if not overwrite and storage.exists(METADATA_FILE):
        raise taken(storage.url)
    if overwrite:
        refuse_object_dependents(storage)


def taken(url: str) -> FileExistsError:
    """What to raise where there is a snapshot that is not to be replaced."""
    return FileExistsError(errno.EEXIST, "a snapshot is here already; overwrite=True replaces it", url)


def check_stored_files(storage: Storage, tag: str, parts: Sequence[Part]) -> None:
    """Looks for the files of all ranks.

    Raises:
        StorageError: one is missing, or not as long as its rank has written it.
    """
    stored = {found.name: found.nbytes for folder in tagged_folders(tag) for found in storage.list(folder)}
    for rank, part in enumerate(parts):
        for name, record in part.files.items():
            if stored.get(name) == record.nbytes_on_disk:
                continue
            url = f"{storage.url}/{name}"
            found = f"has {stored[name]} bytes" if name in stored else "is not there"
            raise StorageError(
                errno.ESTALE,
                f"rank {rank} has written {url} with {record.nbytes_on_disk} bytes, but for rank 0 it {found}: all "
                "ranks have to reach the same bucket, and nobody may remove anything there meanwhile",
                url,
                path=url,
            )

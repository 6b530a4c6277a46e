"""The small files that make a folder a snapshot: commit record, index and signature, not looked into yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from sucrose.errors import IncompleteSnapshotError
from sucrose.formats.index import index_names
from sucrose.formats.limits import MAX_INDEX_NBYTES, MAX_METADATA_NBYTES
from sucrose.formats.manifest import METADATA_FILE

if TYPE_CHECKING:
    from sucrose.storage import Directory

_ATTEMPTS = 5  # so often in a row nobody replaces a snapshot


class NamedFile(NamedTuple):
    """A small file that was found under one of several names."""

    name: str
    data: bytes


def read_commit(directory: Directory, snapshot_path: str) -> tuple[bytes, NamedFile | None]:
    """What the commit record contains, and the index; None where there is none.

    In an object store one may be replaced while the other is on its way: the index that belongs to the record is
    looked for, and where that is gone the record is read again.

    Raises:
        IncompleteSnapshotError: there is no commit record.
        CorruptionError: a file is longer than any of its kind, or no file at all.
    """
    metadata = _read_metadata(directory, snapshot_path)
    for _ in range(_ATTEMPTS):
        index = read_index(directory, metadata)
        if index is not None or directory.is_local:
            break
        seen, metadata = metadata, _read_metadata(directory, snapshot_path)
        if seen == metadata:
            break
    return metadata, index


def read_index(directory: Directory, metadata: bytes) -> NamedFile | None:
    """The index of a snapshot with this commit record; None where there is none."""
    return read_first(directory, index_names(metadata), MAX_INDEX_NBYTES)


def read_first(directory: Directory, names: Iterable[str], max_nbytes: int) -> NamedFile | None:
    """The first of several files that is there; None where none is.

    Raises:
        CorruptionError: it is longer than `max_nbytes`, or no plain file.
    """
    for name in names:
        try:
            return NamedFile(name, directory.read(name, max_nbytes))
        except FileNotFoundError:
            continue
    return None


def _why_missing(directory: Directory, error: OSError) -> str:
    """Of an object store: it may be the bucket that is missing."""
    from sucrose.storage.objects.directory import ObjectDirectory
    from sucrose.storage.objects.missing_bucket import why_missing

    why = why_missing(directory.storage) if isinstance(directory, ObjectDirectory) else ""
    return why or f"the commit record is missing ({(error.strerror or '').rstrip('.')})"


def _read_metadata(directory: Directory, snapshot_path: str) -> bytes:
    try:
        return directory.read(METADATA_FILE, MAX_METADATA_NBYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        why = "the commit record is missing" if directory.is_local else _why_missing(directory, error)
        raise IncompleteSnapshotError(
            error.errno,
            f"no complete snapshot here: {why}",
            directory.path_of(METADATA_FILE),
            path=snapshot_path,
        ) from error

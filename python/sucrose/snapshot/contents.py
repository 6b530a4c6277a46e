"""Reading the files of a committed snapshot that are not tensors' data, each checked by its digest."""

from __future__ import annotations

from typing import Any

from sucrose.engine import CHUNK_NBYTES, get_engine
from sucrose.errors import CorruptionError, IncompleteSnapshotError
from sucrose.formats.index import INDEX_FILE, SnapshotIndex, decode_index
from sucrose.formats.manifest import METADATA_FILE, SnapshotMetadata, decode_metadata
from sucrose.snapshot.objects import load_object
from sucrose.snapshot.records import record_of
from sucrose.snapshot.verify import ranges_by_file
from sucrose.storage import LocalDirectory


def load_index(storage: LocalDirectory) -> SnapshotIndex | None:
    """The index; None where torchsnapshot wrote the snapshot, which has none.

    Raises:
        CorruptionError: it is damaged.
    """
    try:
        data = storage.read(INDEX_FILE)
    except FileNotFoundError:
        return None
    path = storage.path_of(INDEX_FILE)
    return decode_index(data, get_engine().digest, chunk_nbytes=CHUNK_NBYTES, path=path)


def load_metadata(storage: LocalDirectory, snapshot_path: str) -> tuple[SnapshotMetadata, SnapshotIndex | None]:
    """The commit record, checked against the index that goes with it.

    Raises:
        IncompleteSnapshotError: there is no commit record.
        CorruptionError: it is damaged, or the index is missing where there should be one.
    """
    path = storage.path_of(METADATA_FILE)
    try:
        data = storage.read(METADATA_FILE)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IncompleteSnapshotError(
            error.errno, "no complete snapshot here: the commit record is missing", path, path=snapshot_path
        ) from error
    index = load_index(storage)
    if index is not None and record_of(data, get_engine()) != index.metadata:
        raise CorruptionError(
            f"{path} is not the one that the index belongs to. It was changed after the "
            "snapshot was committed; restore an older snapshot",
            path=path,
        )
    metadata = decode_metadata(data, path=path)
    if index is None and _needs_index(metadata):
        index_path = storage.path_of(INDEX_FILE)
        raise CorruptionError(
            f"{index_path} is missing, and with it all digests; restore an older snapshot", path=index_path
        )
    return metadata, index


def load_stored_object(
    storage: LocalDirectory, location: str, key: str, index: SnapshotIndex | None, *, allow_pickle: bool
) -> Any:
    """The object in the file at `location`, checked where `index` is given.

    Raises:
        CorruptionError: the file is missing or was changed.
        UnsafeObjectError: the object needs `allow_pickle`.
    """
    path = storage.path_of(location)
    try:
        data = storage.read(location)
    except FileNotFoundError as error:
        raise CorruptionError(f"{path} is missing; it has {key!r}", path=path, key=key) from error
    if index is not None and index.files.get(location) != record_of(data, get_engine()):
        raise CorruptionError(
            f"{path}, which has {key!r}, was changed after the snapshot was committed; restore an older snapshot",
            path=path,
            key=key,
        )
    return load_object(data, key=key, path=path, allow_pickle=allow_pickle)


def _needs_index(metadata: SnapshotMetadata) -> bool:
    """Whether our own writer made it: torchsnapshot's files lie elsewhere."""
    return any(name.startswith(("data/", "objects/")) for name in ranges_by_file(metadata))

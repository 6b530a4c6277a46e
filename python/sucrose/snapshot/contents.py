"""Reading the files of a committed snapshot that are not tensors' data, each checked by its digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sucrose.engine import CHUNK_NBYTES, get_engine
from sucrose.errors import CorruptionError
from sucrose.formats.index import INDEX_FILE, SnapshotIndex, decode_index
from sucrose.formats.manifest import BUFFER_PROTOCOL_ZSTD, METADATA_FILE, SnapshotMetadata, decode_metadata
from sucrose.formats.signature import check_signed_digest
from sucrose.snapshot.authenticity import check_signed
from sucrose.snapshot.commit_record import NamedFile, read_commit
from sucrose.snapshot.incremental.bases import refer_to
from sucrose.snapshot.records import record_of
from sucrose.snapshot.verify import ranges_by_file
from sucrose.storage import Directory

if TYPE_CHECKING:
    from sucrose.formats.signing_keys import Signer


def load_metadata(
    storage: Directory, snapshot_path: str, signer: Signer | None = None
) -> tuple[SnapshotMetadata, SnapshotIndex | None]:
    """The commit record, checked against the index that goes with it.

    Args:
        storage: the snapshot.
        snapshot_path: for messages.
        signer: whose signature the snapshot must have, if any's.

    Returns:
        The record, and the index; None where torchsnapshot wrote the snapshot, which has none.

    Raises:
        IncompleteSnapshotError: there is no commit record.
        SignatureError: it is not signed with a key of `signer`.
        CorruptionError: it is damaged, or the index is missing where there should be one.
    """
    data, found = read_commit(storage, snapshot_path)
    index_data = None if found is None else found.data
    check_signed(storage, signer, index=index_data, metadata=data, snapshot_path=snapshot_path)
    index = None if found is None else index_of_commit(storage, data, found)
    if index is not None and signer is not None:
        check_signed_digest(index.digest, snapshot_path=snapshot_path)
    metadata = decode_metadata(data, path=storage.path_of(METADATA_FILE))
    if index is None and _needs_index(metadata):
        index_path = storage.path_of(INDEX_FILE)
        raise CorruptionError(
            f"{index_path} is missing, and with it all digests; restore an older snapshot", path=index_path
        )
    return metadata, index


def index_of_commit(storage: Directory, metadata: bytes, index: NamedFile) -> SnapshotIndex:
    """The index that this file is, after it was compared with the bytes of the metadata.

    From then on `storage` reads the files of other snapshots, too, that the index lists.

    Raises:
        CorruptionError: one of them is damaged, or they do not belong together.
    """
    engine = get_engine()
    decoded = decode_index(index.data, engine.digest, chunk_nbytes=CHUNK_NBYTES, path=storage.path_of(index.name))
    if record_of(metadata, engine, decoded.digest) != decoded.metadata:
        path = storage.path_of(METADATA_FILE)
        raise CorruptionError(
            f"{path} is not the one that the index belongs to. It was changed after the "
            "snapshot was committed; restore an older snapshot",
            path=path,
        )
    refer_to(storage, decoded)
    return decoded


def load_stored_object(
    storage: Directory, location: str, key: str, index: SnapshotIndex | None, *, allow_pickle: bool
) -> Any:
    """The object in the file at `location`, checked where `index` is given.

    Raises:
        CorruptionError: the file is missing or was changed.
        UnsafeObjectError: the object needs `allow_pickle`.
    """
    path = storage.path_of(location)
    record = None if index is None else index.files.get(location)
    try:
        # Before anything is read: somebody may have put a file there that fits into no memory.
        is_changed = index is not None and (record is None or storage.size(location) != record.nbytes)
        data = b"" if is_changed else storage.read(location, None if record is None else record.nbytes)
    except FileNotFoundError as error:
        raise CorruptionError(f"{path} is missing; it has {key!r}", path=path, key=key) from error
    if is_changed or (index is not None and record != record_of(data, get_engine(), index.digest)):
        raise CorruptionError(
            f"{path}, which has {key!r}, was changed after the snapshot was committed; restore an older snapshot",
            path=path,
            key=key,
        )
    from sucrose.snapshot.objects import load_object  # with torch, which the other functions do not need

    return load_object(data, key=key, path=path, allow_pickle=allow_pickle)


def _needs_index(metadata: SnapshotMetadata) -> bool:
    """Whether our own writer made it: torchsnapshot compresses nothing, and its files lie elsewhere."""
    return any(name.startswith(("data/", "objects/")) for name in ranges_by_file(metadata)) or any(
        getattr(entry, "serializer", None) == BUFFER_PROTOCOL_ZSTD for entry in metadata.manifest.values()
    )

"""One staged copy becomes a snapshot in the store.

1. The note is leased: of several processes one uploads.
2. The store is asked whether the snapshot is there already: whoever was at it may have died after the commit.
3. Files that are not there, or not as long as they should be, are sent. What is there has this take's tag in its name.
4. Index, signature, and the commit record, as a take does it that goes there straight (places/staged_objects.py).
5. The note says so from now on.

Before step 4 is over nothing of an older snapshot has changed. What was sent stays there where something fails, as the
staged copy does: the next attempt goes on from there. Where another snapshot is in the way for good it is deleted.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sucrose.engine import get_engine
from sucrose.errors import CorruptionError, StorageError
from sucrose.formats.index import index_names
from sucrose.formats.limits import MAX_METADATA_NBYTES, MAX_SIGNATURE_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.signature import signature_names
from sucrose.snapshot.commit_record import read_commit, read_first
from sucrose.snapshot.contents import index_of_commit
from sucrose.snapshot.places.place import CommitFiles
from sucrose.snapshot.places.staged_objects import StagedObjects
from sucrose.snapshot.remote.names import tagged_folders
from sucrose.snapshot.remote.target import check_object_target
from sucrose.snapshot.staged_upload.note import NOTE_FILE, UploadNote, note_uploaded, read_note
from sucrose.snapshot.staged_upload.sending import Sending
from sucrose.storage import LocalDirectory
from sucrose.storage.leases import lease_of_file
from sucrose.storage.objects.options import StorageOptions
from sucrose.storage.objects.shared import shared_storage

if TYPE_CHECKING:
    from sucrose.storage.leases import Lease
    from sucrose.storage.objects import Storage

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.5


def carry(
    path: str, note: UploadNote, storage_options: Mapping[str, Any] | None, unwanted: threading.Event, *, is_fresh: bool
) -> None:
    """Returns when the snapshot is in the store; the staged copy is still there.

    Args:
        path: of the staged copy.
        note: as it was when it was read last.
        storage_options: of the store.
        unwanted: gives everything up when it is set.
        is_fresh: whether nobody has tried before.

    Raises:
        FileExistsError: another snapshot is there.
        CorruptionError: the staged copy was changed.
        StorageError: the store does not answer, or refuses.
        InterruptedError: nobody wants it any more.
    """
    storage = shared_storage(note.url, storage_options)
    with _leased(path, unwanted) as held:
        if held is None:
            _check_other_has_uploaded(path, note, storage)
            return
        note = read_note(path)
        if note.is_uploaded:
            return
        if is_fresh or not _is_there(storage, note):
            _upload(path, note, storage, StorageOptions.parse(storage_options), unwanted, is_fresh=is_fresh)
        note_uploaded(path, note)


def _upload(
    path: str,
    note: UploadNote,
    storage: Storage,
    options: StorageOptions,
    unwanted: threading.Event,
    *,
    is_fresh: bool,
) -> None:
    check_object_target(storage, overwrite=note.overwrite)
    copy, engine = LocalDirectory(path), get_engine()
    metadata, found = read_commit(copy, path)
    if found is None:
        raise CorruptionError(f"{path} has no index, and is not uploaded; restore an older snapshot", path=path)
    index = index_of_commit(copy, metadata, found)
    signature = read_first(copy, signature_names(metadata), MAX_SIGNATURE_NBYTES)
    place = StagedObjects(storage, options, note.tag, engine, is_shared=False, alive=lambda: None)
    sending = Sending(copy, index, storage, options, note.tag, engine, place.threads, unwanted)
    try:
        if not is_fresh:
            sending.abort_parts()
        sending.send_missing()
        place.commit(
            CommitFiles(
                index=index,
                encoded_index=found.data,
                metadata=metadata,
                signature=None if signature is None else signature.data,
            ),
            overwrite=note.overwrite,
            alive=sending.check_wanted,
        )
        place.sweep()
    except FileExistsError:
        _delete_sent(storage, note.tag)
        raise
    finally:
        place.discard()


@contextmanager
def _leased(path: str, unwanted: threading.Event) -> Iterator[Lease | None]:
    """Waits for the lease of another process; None where the copy is gone."""
    while (held := _try_lease(path)) is None and os.path.lexists(os.path.join(path, NOTE_FILE)):
        if unwanted.wait(_LOOK_AGAIN_S):
            raise InterruptedError(errno.EINTR, "the upload was interrupted", path)
    try:
        yield held
    finally:
        if held is not None:
            held.release()


def _try_lease(path: str) -> Lease | None:
    return lease_of_file(os.path.join(path, NOTE_FILE), alone=True)


def _is_there(storage: Storage, note: UploadNote) -> bool:
    try:
        record = storage.read(METADATA_FILE, MAX_METADATA_NBYTES)
    except FileNotFoundError:
        return False
    return index_names(record)[0].endswith(note.record)


def _check_other_has_uploaded(path: str, note: UploadNote, storage: Storage) -> None:
    if not _is_there(storage, note):
        raise StorageError(
            errno.ENOENT,
            f"the staged copy is gone, and the snapshot is not at {storage.url}: somebody has removed it, or another "
            "process has uploaded it and it was replaced since",
            path,
            path=path,
        )


def _delete_sent(storage: Storage, tag: str) -> None:
    try:
        storage.delete([found.name for folder in tagged_folders(tag) for found in storage.list(folder)])
    except StorageError as error:
        logger.warning("what was sent to %s could not be removed: %s", storage.url, error)

"""One staged copy becomes a snapshot in the store.

1. The store is asked whether the snapshot is there already: whoever was at it may have died after the commit.
2. Files that are not there, or not as long as they should be, are sent. What is there has this take's tag in its name.
3. Index, signature, and the commit record, as a take does it that goes there straight (places/staged_objects.py).
4. The note says so from now on.

Before step 3 is over nothing of an older snapshot has changed. What was sent stays there where something fails, as the
staged copy does: the next attempt goes on from there. Where another snapshot is in the way for good it is deleted.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

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
from sucrose.snapshot.staged_upload.note import UploadNote, note_uploaded
from sucrose.snapshot.staged_upload.sending import Sending
from sucrose.storage import LocalDirectory
from sucrose.storage.objects.giving_up import given_up_on
from sucrose.storage.objects.options import StorageOptions
from sucrose.storage.objects.shared import shared_storage

if TYPE_CHECKING:
    from sucrose.snapshot.staged_upload.upload import StagedUpload
    from sucrose.storage.objects import Storage

logger = logging.getLogger(__name__)


def carry(upload: StagedUpload) -> None:
    """Returns when the snapshot is in the store; the staged copy is still there.

    Raises:
        FileExistsError: another snapshot is there.
        CorruptionError: the staged copy was changed.
        StorageError: the store does not answer, or refuses.
        InterruptedError: nobody wants it any more.
    """
    assert upload.note is not None
    storage = shared_storage(upload.url, upload.storage_options)
    with given_up_on(upload.unwanted):
        try:
            if upload.is_fresh or not _is_there(storage, upload.note):
                _upload(upload, upload.note, storage)
        except FileExistsError:
            if not _is_there(storage, upload.note):  # else the answer to this commit was lost
                _delete_sent(storage, upload.note.tag)
                raise
    try:
        note_uploaded(upload.path, upload.note)
    except OSError as error:  # the disk is full, perhaps; the copy is about to be removed anyway
        logger.warning("%s is uploaded, which could not be noted: %s", upload.path, error)


def _upload(upload: StagedUpload, note: UploadNote, storage: Storage) -> None:
    check_object_target(storage, overwrite=note.overwrite)
    options = StorageOptions.parse(upload.storage_options)
    copy, engine = LocalDirectory(upload.path), get_engine()
    metadata, found = read_commit(copy, upload.path)
    if found is None:
        raise CorruptionError(f"{upload.path} has no index, and is not uploaded", path=upload.path)
    index = index_of_commit(copy, metadata, found)
    signature = read_first(copy, signature_names(metadata), MAX_SIGNATURE_NBYTES)
    place = StagedObjects(storage, options, note.tag, engine, is_shared=False, alive=lambda: None)
    sending = Sending(copy, index, storage, options, note.tag, engine, place.threads, upload.unwanted)
    try:
        if not upload.is_fresh:
            sending.abort_parts()
        sending.send_missing(is_fresh=upload.is_fresh)
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
    finally:
        place.discard()


def _is_there(storage: Storage, note: UploadNote) -> bool:
    try:
        record = storage.read(METADATA_FILE, MAX_METADATA_NBYTES)
    except FileNotFoundError:
        return False
    return index_names(record)[0].endswith(note.record)


def _delete_sent(storage: Storage, tag: str) -> None:
    try:
        storage.delete([found.name for folder in tagged_folders(tag) for found in storage.list(folder)])
    except StorageError as error:
        logger.warning("what was sent to %s could not be removed: %s", storage.url, error)

"""What is no generation, or not any more, and whether anybody still has to do with it.

Nothing tells the upload of a dead program from one of a program that is slow, but their age: an upload whose youngest
file, or part of a file, is as old as the storage option ``abandoned_after_s`` says is taken for a dead one's.
"""

from __future__ import annotations

import datetime
import logging
from contextlib import suppress

from sucrose.catalog.names import REMOVED_FILE, is_generation_name
from sucrose.catalog.objects.folders import FolderState, state_of
from sucrose.errors import AccessDeniedError
from sucrose.storage.objects import AbandonedUpload, Storage, StoredFile

logger = logging.getLogger(__name__)


def abandoned_uploads(storage: Storage, abandoned_after_s: float) -> list[str]:
    """Names of the folders for which somebody has begun to upload a file so long ago, and never finished it."""
    try:
        names = {upload.name.partition("/")[0] for upload in storage.abandoned_uploads(abandoned_after_s)}
    except AccessDeniedError as error:  # a right of its own, and not needed to save or to restore
        logger.debug("unfinished uploads are not looked for: %s", error)
        return []
    return [name for name in names if is_generation_name(name)]


def is_abandoned(storage: Storage, name: str, abandoned_after_s: float) -> bool:
    """Whether nobody uploads the folder any more, or a collection has begun to remove it."""
    state = state_of(storage, name)
    return state is FolderState.REMOVED or (
        state in (FolderState.UNFINISHED, FolderState.GONE) and _is_old(storage.within(name), abandoned_after_s)
    )


def remove(storage: Storage, name: str, abandoned_after_s: float) -> bool:
    """Removes a folder; False where its writer may be alive, or it is a generation, or in quarantine.

    The mark of the removal goes last: what a crash leaves of it is known by that.

    Raises:
        StorageError: something cannot be removed.
    """
    if not is_abandoned(storage, name, abandoned_after_s):
        return False
    folder = storage.within(name)
    folder.delete([file.name for file in folder.list() if file.name != REMOVED_FILE])
    folder.delete([REMOVED_FILE])
    with suppress(AccessDeniedError):
        folder.abort_abandoned(abandoned_after_s)
    return True


def _is_old(folder: Storage, abandoned_after_s: float) -> bool:
    latest = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=abandoned_after_s)
    uploads: list[AbandonedUpload] = []
    with suppress(AccessDeniedError):
        uploads = list(folder.abandoned_uploads(0.0))
    return all(_is_before(file, latest) for file in folder.list()) and all(
        upload.begun is not None and upload.begun <= latest for upload in uploads
    )


def _is_before(file: StoredFile, latest: datetime.datetime) -> bool:
    """Whether it is that old for sure: not every store tells."""
    return file.modified is not None and file.modified <= latest

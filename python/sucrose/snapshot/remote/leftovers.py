"""What takes to an object store leave that never came to their commit: a killed program removes nothing."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from sucrose.snapshot.remote.names import is_of_a_take, where_takes_put_files

if TYPE_CHECKING:
    from sucrose.storage.objects import Storage

logger = logging.getLogger(__name__)


def remove_abandoned(storage: Storage, keep: AbstractSet[str], older_than_s: float) -> None:
    """Removes files and uploads below a snapshot that are so old, and belong to nothing; raises no error of the store.

    Args:
        storage: the snapshot.
        keep: names of what it consists of.
        older_than_s: what is younger may be another program's, which is writing it.
    """
    try:
        latest = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=older_than_s)
        abandoned = [
            found.name
            for start in where_takes_put_files()
            for found in storage.list(start)
            if is_of_a_take(found.name)
            and found.name not in keep
            and found.modified is not None
            and found.modified <= latest
        ]
        if abandoned:
            logger.info("%s: removing %d files of takes that were never committed", storage.url, len(abandoned))
            storage.delete(abandoned)
        uploads = (upload.name for upload in storage.abandoned_uploads(older_than_s))
        for folder in {name.rpartition("/")[0] for name in uploads if is_of_a_take(name)}:
            storage.within(folder).abort_abandoned(older_than_s)
    except Exception as error:  # noqa: BLE001 - the take has succeeded
        logger.warning("what earlier takes have left at %s could not be removed: %s", storage.url, error)

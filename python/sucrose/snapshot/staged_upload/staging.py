"""The beginning of a take that goes by way of a staging folder."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING

import sucrose.snapshot.staged_upload.process_end  # noqa: F401 - the end of the program waits, and tells
from sucrose.errors import ConfigError, UnsupportedError
from sucrose.snapshot.staged_upload.copies import next_copy
from sucrose.snapshot.staged_upload.upload_queue import queue_of

if TYPE_CHECKING:
    from sucrose.ranks import Exchange
    from sucrose.snapshot.places.target import TakeTarget
    from sucrose.snapshot.staged_upload.upload import StagedUpload

MOST_STAGED = 8
"""Copies that wait for their upload: whoever takes faster than the store can follow waits for the oldest."""


def staged_target(target: TakeTarget, upload: StagedUpload, exchange: Exchange, *, overwrite: bool) -> TakeTarget:
    """Where the take puts its files, once what lies in the staging folder is under way and there are not too many.

    Raises:
        ConfigError: the target is no URL.
        UnsupportedError: there are several ranks.
        FileExistsError: a snapshot is at the URL, or staged for it, and not to be replaced.
        StorageError: the store does not answer.
        Exception: of an upload that has failed, where nobody has been told of it yet.
    """
    _check(target, upload, exchange)
    queue = queue_of(upload.folder)
    queue.raise_untold()
    queue.resume(upload.storage_options)
    if not overwrite and queue.has_staged(target.location):
        raise FileExistsError(
            errno.EEXIST, "a snapshot that is on its way there is staged; overwrite=True replaces it", target.location
        )
    target.check(overwrite=overwrite)
    queue.wait_fewer(MOST_STAGED)
    upload.url = target.location
    upload.path = next_copy(upload.folder, target.tag)
    return replace(target, location=upload.path, storage_options=None, upload=upload)


def _check(target: TakeTarget, upload: StagedUpload, exchange: Exchange) -> None:
    if not target.is_remote:
        raise ConfigError(
            f"staging_dir={upload.folder!r} is for takes to object stores, and {target.location!r} is on a file "
            "system: save there without it",
            path=target.location,
        )
    if exchange.world_size > 1:
        raise UnsupportedError(
            f"staging_dir={upload.folder!r} is for takes on one rank so far, and these are {exchange.world_size}: take "
            "to the object store itself, with async_take, which writes from memory in the background"
        )

"""`resume_uploads`: what a program has left staged comes to its store."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from typing import Any

import sucrose.snapshot.staged_upload.process_end  # noqa: F401 - the end of the program waits, and tells
from sucrose.snapshot.staged_upload.upload import StagedUpload
from sucrose.snapshot.staged_upload.upload_queue import queue_of
from sucrose.storage import local_path


def resume_uploads(
    staging_dir: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    tell: Callable[[StagedUpload], object] | None = None,
) -> tuple[str, ...]:
    """Uploads the snapshots that are staged below a folder, and returns when they are in their stores.

    They were left by programs that were killed, or whose uploads have failed. What a process has staged that is alive
    is left to that one. A take with this folder begins the same and does not wait.

    Args:
        staging_dir: the folder that takes were given.
        storage_options: credentials, and whatever else is not to be as it was for the takes.
        tell: is called after each attempt.

    Returns:
        The URLs of the snapshots, in the order of their takes.

    Raises:
        FileNotFoundError: there is no such folder.
        Exception: the first error of an upload; the others were tried, too.

    Example:
        >>> import tempfile, torch
        >>> from sucrose import Snapshot, StateDict, resume_uploads
        >>> folder = tempfile.mkdtemp()
        >>> state = {"state": StateDict(weight=torch.ones(3))}
        >>> snapshot = Snapshot.take("memory://example/resumed/step_1", state, staging_dir=folder)
        >>> snapshot.wait_uploaded()
        >>> resume_uploads(folder)
        ()
    """
    folder = os.path.realpath(local_path(staging_dir))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such staging folder", folder)
    queue = queue_of(folder)
    while queue.pop_untold() is not None:  # all are tried again, and told of here
        pass
    uploads = queue.resume(storage_options)
    for upload in uploads:
        queue.wait_ended(upload)
        if tell is not None:
            tell(upload)
    for upload in uploads:
        queue.raise_error(upload)
    return tuple(upload.url for upload in uploads)

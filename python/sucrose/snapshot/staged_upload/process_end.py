"""What becomes of uploads when the process ends: they are waited for, and failures are told.

Only where Ctrl-C has interrupted Python's own waiting are they given up: the staged copies are there, and the next
program goes on.
"""

from __future__ import annotations

import atexit
import logging
import sys
import time
from contextlib import suppress

from sucrose.engine import fail_exit
from sucrose.snapshot.staged_upload.upload import StagedUpload
from sucrose.snapshot.staged_upload.upload_queue import queues

logger = logging.getLogger(__name__)

_LEAVE_WITHIN_S = 10.0


def end_of_process() -> None:
    """See above."""
    deadline = time.monotonic() + _LEAVE_WITHIN_S
    for queue in queues():
        left = queue.under_way()
        for upload in left:
            upload.unwanted.set()
        for upload in left:
            queue.wait_ended(upload, max(0.0, deadline - time.monotonic()))
        interrupted = [upload for upload in left if not upload.is_uploaded]
        for upload in interrupted:
            _report(upload, "was interrupted at the end of the program")
        while (untold := queue.pop_untold()) is not None:
            if untold not in interrupted:
                _report(untold, f"failed, and nobody had asked: {type(untold.error).__name__}: {untold.error}")


def _report(upload: StagedUpload, what: str) -> None:
    message = (
        f"uploading {upload.path!r} to {upload.url} {what}; the next take with this staging folder goes on, or "
        f"'sucrose upload {upload.folder}'"
    )
    if logger.hasHandlers():
        logger.error(message)
    with suppress(AttributeError, OSError, ValueError):  # stderr may be None, broken or closed
        sys.stderr.write(f"sucrose: {message}\n")
        sys.stderr.flush()
    fail_exit()


atexit.register(end_of_process)

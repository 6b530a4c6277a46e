"""Uploads from one staging folder, one after another in the order of the takes, behind the program's back.

1. `add` puts one at the end, and starts a thread where none is at work. The thread ends with the last upload.
2. What fails is in the log at once, and raised by the next take with this folder, or to whoever waits for it; uploads
   behind it go on. It is tried again with the take after that, unless another snapshot was in its way.
3. A snapshot that was uploaded is final for its URL: earlier ones that failed and belong there are not tried again.

As in `commit_queue` nobody holds a lock but the thread at work, as a signal handler may come anywhere, and the thread
is an ordinary one, for which Python waits at the end of the main thread. After that whoever adds an upload makes it.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sucrose.snapshot.main_thread import main_thread_has_ended
from sucrose.snapshot.remote.frames import forget_frames
from sucrose.snapshot.staged_upload.carrying import carry
from sucrose.snapshot.staged_upload.copies import copies_in, order_of, remove_copy, remove_leftovers
from sucrose.snapshot.staged_upload.upload import StagedUpload
from sucrose.snapshot.thread_start import start_thread

logger = logging.getLogger(__name__)

_LOOK_AROUND_S = 0.1


class UploadQueue:
    """See above. Thread-safe."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._uploads: deque[StagedUpload] = deque()  # that have not ended
        self._failed: deque[StagedUpload] = deque()
        self._untold: deque[StagedUpload] = deque()  # of those
        self._at_work = threading.Lock()
        """Held by the one thread that uploads."""

    def add(self, upload: StagedUpload) -> None:
        """Step 1. Returns at once, but at the end of a program, where it returns after the upload."""
        self._uploads.append(upload)
        self._set_to_work()
        if main_thread_has_ended():
            self.wait_ended(upload)

    def resume(self, storage_options: Mapping[str, Any] | None) -> list[StagedUpload]:
        """Adds what lies in the folder and no process has at hand; returns what is waited for then.

        Raises:
            CorruptionError: the note of a copy is damaged.
        """
        remove_leftovers(self.folder)
        for failed in self._failed.copy():
            if failed not in self._untold and not isinstance(failed.error, FileExistsError):
                with suppress(ValueError):
                    self._failed.remove(failed)
                    failed.begin_again()
                    self._uploads.append(failed)
        known = {upload.path for upload in (*self._uploads.copy(), *self._failed.copy())}
        for path in copies_in(self.folder):
            found = None if path in known else StagedUpload.found(path, storage_options)
            if found is not None:
                self._uploads.append(found)
        self._set_to_work()
        return self.under_way()

    def under_way(self) -> list[StagedUpload]:
        """Uploads that have not ended, in their order."""
        return [upload for upload in self._uploads.copy() if not upload.has_ended]

    def has_staged(self, url: str) -> bool:
        """Whether a snapshot for this URL is on its way."""
        return any(upload.url == url for upload in self.under_way())

    def wait_fewer(self, than: int) -> None:
        """Blocks until there are fewer uploads."""
        while len(waiting := self.under_way()) >= than:
            self.wait_ended(waiting[0])

    def wait_next(self) -> bool:
        """Blocks until the next upload has ended; False where there is none."""
        waiting = self.under_way()
        return bool(waiting) and self.wait_ended(waiting[0])

    def wait_ended(self, upload: StagedUpload, timeout_s: float | None = None) -> bool:
        """Blocks until the attempt that is under way is over; False on time-out."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not upload.has_ended and (left_s := deadline - time.monotonic()) > 0:
            self._set_to_work()  # again and again: whoever was at work may have been interrupted
            upload.ended.wait(min(left_s, _LOOK_AROUND_S))
        return upload.has_ended

    def raise_error(self, upload: StagedUpload) -> None:
        """Raises the error of an upload that has failed; from here on somebody has been told."""
        if upload.error is not None:
            with suppress(ValueError):
                self._untold.remove(upload)
            raise upload.error.with_traceback(None)

    def raise_untold(self) -> None:
        """Raises the earliest error that nobody has been told of."""
        untold = self.pop_untold()
        if untold is not None:
            self.raise_error(untold)

    def pop_untold(self) -> StagedUpload | None:
        """The earliest failure that nobody has been told of; whoever calls this tells it."""
        with suppress(IndexError):
            return self._untold.popleft()
        return None

    def _set_to_work(self) -> None:
        if not self._uploads or self._at_work.locked():
            return
        if main_thread_has_ended() or not start_thread(self._work, "sucrose-staged-upload"):
            self._work()

    def _work(self) -> None:
        # Who finds the lock taken may leave: its holder looks at the uploads once more after releasing it.
        while self._uploads and self._at_work.acquire(blocking=False):
            try:
                self._work_alone()
            finally:
                self._at_work.release()

    def _work_alone(self) -> None:
        while self._uploads:
            first = self._uploads[0]
            if not first.has_ended:
                self._carry_out(first)
            with suppress(ValueError):
                self._uploads.remove(first)

    def _carry_out(self, upload: StagedUpload) -> None:
        try:
            carry(upload)
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            forget_frames(error)  # they have buffers
            logger.log(
                logging.INFO if upload.unwanted.is_set() else logging.ERROR,  # the end of the program tells
                "uploading the staged copy %s to %s failed, and the copy stays: %s: %s",
                upload.path,
                upload.url,
                type(error).__name__,
                error,
            )
            self._failed.append(upload)
            self._untold.append(upload)  # before anybody can be told, who takes it out again
            upload.end(error)
        except BaseException:  # Ctrl-C, where the main thread itself is at work
            self._failed.append(upload)
            upload.end(InterruptedError(f"uploading {upload.path} was interrupted"))
            raise
        else:
            self._uploaded(upload)

    def _uploaded(self, upload: StagedUpload) -> None:
        upload.is_uploaded = True
        if not remove_copy(upload.path):
            logger.info("%s is uploaded and read just now; it is removed later", upload.path)
        upload.let_go()
        for earlier in self._failed.copy():
            is_superseded = earlier.url == upload.url and order_of(earlier.path) < order_of(upload.path)
            if is_superseded and not isinstance(earlier.error, FileExistsError) and remove_copy(earlier.path):
                logger.info("%s is removed: a later snapshot is at %s", earlier.path, upload.url)
                with suppress(ValueError):  # a take has just begun it again
                    self._failed.remove(earlier)
                earlier.let_go()
        upload.end()


_queues: dict[str, UploadQueue] = {}


def queue_of(folder: str) -> UploadQueue:
    """The one of this process for a staging folder, by its real path."""
    return _queues.setdefault(folder, UploadQueue(folder))


def queues() -> list[UploadQueue]:
    """All of this process."""
    return list(_queues.values())


os.register_at_fork(after_in_child=_queues.clear)  # uploads go on in the parent alone

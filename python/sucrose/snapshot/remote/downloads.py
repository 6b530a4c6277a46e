"""Who brings the bytes that relayed reads ask for.

1. `carry` queues a read and sees to it that there are threads, as many as the storage makes requests at a time.
2. Each thread takes what the oldest read wants next, fetches it into the engine's memory, and says so. It waits for
   the engine with nothing in hand. When nothing is wanted of a read any more it goes on to the next one, and it ends
   where there is none.
3. What cannot be fetched ends its read, and whoever waits for that gets the error of the storage.
4. A read that has ended, that is cancelled or that nobody holds any more gives up the requests that are under way.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

from sucrose.engine import CHUNK_NBYTES
from sucrose.engine.relay import stop_at_exit
from sucrose.errors import StorageError
from sucrose.snapshot.remote.frames import forget_frames
from sucrose.snapshot.thread_start import start_thread
from sucrose.storage.objects.giving_up import given_up_on

if TYPE_CHECKING:
    from sucrose.engine import ReadResult, RelayedReadTicket, Request
    from sucrose.storage import Directory

Fetch: TypeAlias = Callable[[int, memoryview], object]
"""(offset in the file, memory to be filled); raises what has failed."""

_LEAVE_WITHIN_S = 5.0  # at the end of the program: a request through fsspec's plain interface cannot be given up
_LOOK_AGAIN_S = 0.01


class _Read:
    """A relayed read under way. Thread-safe."""

    def __init__(self, ticket: RelayedReadTicket, fetch: Fetch) -> None:
        self.ticket = ticket
        self.error: Exception | None = None
        """What has ended it, where that was no business of the engine's."""
        self._fetch = fetch
        self._is_over = threading.Event()

    def next_request(self) -> Request | None:
        """What it wants next; None where that is nothing any more."""
        try:
            request = self.ticket.next_request()
        except Exception:  # noqa: BLE001 - whoever waits for the read is told
            self._is_over.set()
            return None
        return request

    def bring(self, request: Request) -> None:
        """Carries a request out; ends the read where that fails."""
        try:
            with given_up_on(self._is_over), memoryview(request.data) as into:
                self._fetch(request.offset, into)
        except Exception as error:  # noqa: BLE001 - likewise
            forget_frames(error)
            if not self._is_over.is_set():
                self.error = self.error or error
                self._is_over.set()
            self.ticket.fail(getattr(error, "errno", None) or errno.EIO)
            request.fail(errno.EIO)
        else:
            request.complete()

    def cancel(self) -> None:
        """Ends it, unless it has ended."""
        self._is_over.set()
        self.ticket.cancel()


class DownloadTicket:
    """A relayed read that is carried: an `engine.ReadTicket`."""

    def __init__(self, read: _Read) -> None:
        self._read = read
        self._dropped = weakref.finalize(self, read.cancel)
        self._dropped.atexit = False

    def progress(self) -> tuple[int, int]:
        """Bytes done and bytes in all."""
        return self._read.ticket.progress()

    def cancel(self) -> None:
        """Fetches nothing more; `wait` then raises `InterruptedError`."""
        self._read.cancel()

    def wait(self, timeout_s: float | None = None) -> ReadResult:
        """Blocks until all bytes are in place.

        Raises:
            CorruptionError: the file is shorter than it should be.
            StorageError: it cannot be fetched.
            OSError: the engine has failed.
            TimeoutError: not finished within `timeout_s`.
        """
        try:
            result = self._read.ticket.wait(timeout_s)
        except OSError as error:
            is_late = isinstance(error, TimeoutError) and error.errno is None
            if is_late or self._read.error is None:
                raise
        else:
            self._dropped.detach()  # Ctrl-C in a finalizer is lost
            return result
        raise self._read.error


class Downloads:
    """Carries reads side by side. Any thread may call anything.

    Args:
        concurrency: threads at most.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._reads: deque[_Read] = deque()  # of which more may be wanted, the oldest first
        self._in_hand: dict[int, _Read] = {}  # by the threads that fetch
        # Of the threads that fetch alone: Ctrl-C, or a signal handler that reads, may come anywhere in the others.
        self._lock = threading.Lock()
        self._threads = 0
        stop_at_exit(self)

    def carry(self, ticket: RelayedReadTicket, fetch: Fetch) -> DownloadTicket:
        """Has the requests of a read carried out.

        Args:
            ticket: nobody else asks it for requests.
            fetch: called by several threads at once.

        Raises:
            StorageError: there can be no thread (EAGAIN).
        """
        read = _Read(ticket, fetch)
        carried = DownloadTicket(read)
        useful = -(-ticket.progress()[1] // CHUNK_NBYTES)
        self._reads.append(read)  # before threads are counted: one that ends looks once more when it counts no longer
        for number in range(min(useful, self._concurrency - self._threads)):
            if not start_thread(self._run, "sucrose-download", daemon=True):
                if number == 0:
                    self._refuse(read)
                break  # fewer will do
        return carried

    def stop(self) -> None:
        """Cancels everything, and waits for the threads for a while."""
        deadline = time.monotonic() + _LEAVE_WITHIN_S
        while True:
            for read in [*self._reads, *self._in_hand.values()]:
                read.cancel()
            if not self._threads or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_AGAIN_S)

    def _refuse(self, read: _Read) -> None:
        if self._threads:
            return  # those of other reads come to this one
        read.cancel()
        self._has_ended(read)
        raise StorageError(errno.EAGAIN, "no thread can be started that would fetch the files of the snapshot")

    def _run(self) -> None:
        if not self._is_one_more():
            return
        thread = threading.get_ident()
        while (read := self._oldest()) is not None:
            self._in_hand[thread] = read
            request = read.next_request()
            if request is None:
                self._has_ended(read)
            else:
                read.bring(request)
            del request, read, self._in_hand[thread]

    def _is_one_more(self) -> bool:
        """Counts this thread, as Ctrl-C may come between any two lines of whoever starts it; false: it is too many."""
        with self._lock:
            is_one = self._threads < self._concurrency
            self._threads += is_one
            return is_one

    def _oldest(self) -> _Read | None:
        """Whose turn it is; None where this thread is to end, and is not counted any more."""
        while True:
            with suppress(IndexError):
                return self._reads[0]
            with self._lock:
                self._threads -= 1
            if not self._reads or not self._is_one_more():
                return None

    def _has_ended(self, read: _Read) -> None:
        with suppress(ValueError):  # another thread has said so
            self._reads.remove(read)


_downloads: weakref.WeakKeyDictionary[Directory, Downloads] = weakref.WeakKeyDictionary()


def downloads_of(directory: Directory) -> Downloads:
    """Those that all reads of the directory share."""
    found = _downloads.get(directory)
    if found is None:
        found = _downloads.setdefault(directory, Downloads(directory.concurrency))
    return found


# Their threads are the parent's.
os.register_at_fork(after_in_child=_downloads.clear)

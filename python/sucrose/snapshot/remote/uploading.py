"""A data file of a take on its way to an object store.

1. The engine gathers, digests and encodes it, and hands its bytes out block by block (engine/relay.py).
2. A thread copies the blocks into buffers of the size of a part, in their order, and gives them back at once.
3. Other threads send the buffers, in any order. A file that fits into one is put by a single request, else it is an
   upload in parts, which the thread that has sent the last of them completes.

What fails on either side ends the other: a part that cannot be sent the engine's work, and that the upload, which is
aborted. The ticket ends when nothing is under way any more.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sucrose.engine import CHUNK_NBYTES
from sucrose.formats.index import MAX_FRAMES_OVERHEAD_NBYTES
from sucrose.snapshot.remote.frames import forget_frames
from sucrose.storage.objects.gate import Gate
from sucrose.storage.objects.giving_up import given_up_on

if TYPE_CHECKING:
    from sucrose.engine import RelayedWriteTicket, WriteResult
    from sucrose.snapshot.remote.upload_threads import UploadThreads
    from sucrose.storage.objects import Storage, Upload


class UploadTicket:
    """`engine.WriteTicket` of a file in an object store. Thread-safe.

    What `wait` raises of the storage's are its own errors, with the URL.
    """

    def __init__(
        self,
        begin: Callable[[], RelayedWriteTicket],
        storage: Storage,
        name: str,
        *,
        nbytes: int,
        put_nbytes: int,
        is_encoded: bool,
        is_staged: bool,
        threads: UploadThreads,
        known: deque[UploadTicket],
    ) -> None:
        """Begins. Sources that are to be staged are read at once, others when it is the file's turn.

        Args:
            begin: begins the engine's part.
            storage: where the file is put.
            name: of the file, there.
            nbytes: of its sources.
            put_nbytes: up to so many it is put by a single request.
            is_encoded: whether it has other bytes than its sources.
            is_staged: whether `begin` copies the sources.
            threads: which carry it.
            known: gets the ticket before anything is begun, so that it cannot be lost.
        """
        self._begin: Callable[[], RelayedWriteTicket] | None = begin
        self._relay: RelayedWriteTicket | None = None
        self._storage = storage
        self._name = name
        self._nbytes = nbytes
        chunks = -(-nbytes // CHUNK_NBYTES)
        self._most_nbytes = nbytes + (chunks * MAX_FRAMES_OVERHEAD_NBYTES if is_encoded else 0)
        self._is_put = self._most_nbytes <= put_nbytes
        self._is_encoded = is_encoded
        self._is_staged = is_staged
        self._threads = threads
        self._upload: Upload | None = None
        self._sent_nbytes = 0
        self._counted_nbytes = 0
        self._unwanted = threading.Event()
        """It was cancelled, or something has failed: requests that are under way are given up."""
        self._error: Exception | None = None
        self._result: WriteResult | None = None
        self._ended = Gate()
        # Taken by the threads that carry, never by who asks: a signal handler might wait for them.
        self._lock = threading.Lock()
        self._under_way = 1  # parts, and the thread that fills them
        self._is_taken_up = False
        known.append(self)
        if is_staged:
            self._begun()
        threads.pull(self._carry)

    def progress(self) -> tuple[int, int]:
        """Bytes of the sources that the store has taken, and bytes in all."""
        return self._nbytes if self._result is not None else min(self._sent_nbytes, self._nbytes), self._nbytes

    def cancel(self) -> None:
        """Sends no further part; `wait` then raises InterruptedError, unless all was sent."""
        self._unwanted.set()
        relay = self._relay
        if relay is not None and not self._ended.is_open:
            relay.cancel()

    def give_up(self) -> None:
        """Cancels, and returns when nothing of it is under way; also where Ctrl-C came before its thread was told."""
        self.cancel()
        if self._is_taken_up:
            self._ended.wait()

    def wait(self, timeout_s: float | None = None) -> WriteResult:
        """See `WriteTicket.wait`: the file is there."""
        if not self._ended.wait(timeout_s):
            done, total = self.progress()
            raise TimeoutError(f"{done} of {total} bytes were sent after {timeout_s} s")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def wait_safe(self, timeout_s: float | None = None) -> None:
        """See `WriteTicket.wait_safe`."""
        if self._is_staged and self._relay is not None:
            self._relay.wait_safe(timeout_s)
        else:
            self.wait(timeout_s)

    def wait_staged(self, timeout_s: float | None = None) -> None:
        """See `WriteTicket.wait_staged`."""
        if self._is_staged and self._relay is not None:
            self._relay.wait_staged(timeout_s)
        else:
            self.wait(timeout_s)

    def staged(self) -> bool:
        """See `WriteTicket.staged`."""
        if self._is_staged and self._relay is not None:
            return self._relay.staged()
        if self._ended.is_open:
            self.wait()
        return self._ended.is_open

    def staging(self) -> str:
        """See `WriteTicket.staging`."""
        return self._relay.staging() if self._is_staged and self._relay is not None else "none"

    def _begun(self) -> RelayedWriteTicket:
        begin, self._begin = self._begin, None  # it has the sources
        if begin is not None:
            self._relay = begin()
        assert self._relay is not None
        return self._relay

    def _carry(self) -> None:
        """Steps 2 and 3 up to the last part. Runs once, in the thread that pulls."""
        self._is_taken_up = True
        try:
            with given_up_on(self._unwanted):
                self._check_wanted()
                relay = self._begun()
                self._check_wanted()  # it may have been cancelled before the relay was there
                if not self._is_put:
                    self._upload = self._storage.upload(self._name, self._most_nbytes)
                self._fill_parts(relay)
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
            forget_frames(error)  # they have a block, and that one of the engine's slots
        finally:
            self._one_ended()

    def _fill_parts(self, relay: RelayedWriteTicket) -> None:
        part_nbytes = max(1, self._most_nbytes) if self._upload is None else self._upload.part_nbytes
        buffer: memoryview | None = None
        filled = number = 0
        while (block := relay.next_block()) is not None:
            rest = block.data
            while rest.nbytes:
                if buffer is None:
                    buffer = self._threads.take_buffer(part_nbytes, self._check_wanted)
                    filled, number = 0, number + 1
                some = rest[: part_nbytes - filled]
                buffer[filled : filled + some.nbytes] = some
                filled, rest = filled + some.nbytes, rest[some.nbytes :]
                if filled == part_nbytes and not self._is_put:
                    self._hand_out(number, buffer, filled, relay)
                    buffer = None
            del some, rest  # views keep the slot
            block.release()
        if buffer is not None:
            self._hand_out(number, buffer, filled, relay)
        elif self._is_put:
            self._storage.put(self._name, b"")

    def _hand_out(self, number: int, buffer: memoryview, nbytes: int, relay: RelayedWriteTicket) -> None:
        counted_nbytes = nbytes
        if self._is_encoded:  # more or less: so much the engine has done since the last part
            done_nbytes, _ = relay.progress()
            counted_nbytes, self._counted_nbytes = done_nbytes - self._counted_nbytes, done_nbytes
        with self._lock:
            self._under_way += 1
        self._threads.send(partial(self._send, number, buffer, nbytes, counted_nbytes))

    def _send(self, number: int, buffer: memoryview, nbytes: int, counted_nbytes: int) -> None:
        """One part. Runs in a thread that sends."""
        try:
            with given_up_on(self._unwanted):
                self._check_wanted()
                if self._upload is None:
                    self._storage.put(self._name, buffer[:nbytes])
                else:
                    self._upload.write_part(number, buffer[:nbytes])
            with self._lock:
                self._sent_nbytes += counted_nbytes
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
            forget_frames(error)  # they have the buffer
        finally:
            self._threads.give_back(buffer)
            self._one_ended()

    def _check_wanted(self) -> None:
        if self._unwanted.is_set():
            raise InterruptedError(errno.EINTR, "the upload was cancelled", self._name)

    def _fail(self, error: BaseException) -> None:
        """Ends what is under way on both sides. The first error counts."""
        with self._lock:
            if self._error is None:
                interrupted = InterruptedError(errno.EINTR, "the upload was interrupted", self._name)
                self._error = error if isinstance(error, Exception) else interrupted
        self._unwanted.set()
        if self._relay is not None:
            self._relay.fail(getattr(error, "errno", None) or errno.EIO)
        if self._upload is not None:
            self._upload.abort()  # when none of its parts is on its way any more

    def _one_ended(self) -> None:
        with self._lock:
            self._under_way -= 1
            if self._under_way:
                return
        try:
            self._conclude()
        finally:
            self._ended.open()

    def _conclude(self) -> None:
        """The end of the file, in the last thread that had to do with it."""
        relay = self._relay
        try:
            self._check_wanted()
            assert relay is not None
            result = relay.wait()
            if self._upload is not None:
                with given_up_on(self._unwanted):
                    self._upload.complete()
            self._result = result
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise
        finally:
            if relay is not None and self._result is None:
                relay.cancel()
                with suppress(Exception):  # the error that counts is kept
                    relay.wait()  # until then the engine may read the sources
            if not self._is_staged:
                self._relay = None  # it may have the sources

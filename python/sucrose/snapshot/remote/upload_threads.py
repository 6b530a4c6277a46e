"""The threads that carry the files of one take to an object store, and the memory that they do it with.

1. One thread takes up file after file, in the order in which they were begun, and copies their bytes into buffers.
2. Others, as many as there may be requests at a time, send what is full, and small files beside.
3. The number of buffers is fixed. Who needs one waits until another was sent: that is all the memory that uploads
   take, and all the back-pressure there is.
4. A thread is started when there is something for it, and ends with `close`, or when it has nothing to do after the
   end of the main thread. Where none can be started any more, whoever wants something carried does it himself.

Nothing here takes a lock of Python's: a signal handler may save in the middle of everything.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from sucrose.snapshot.main_thread import main_thread_has_ended
from sucrose.snapshot.thread_start import start_thread

_LOOK_UP_S = 0.5


class UploadThreads:
    """See above. Thread-safe.

    Attributes:
        buffers_made: how many buffers there are.
    """

    def __init__(self, concurrency: int, *, buffers: int) -> None:
        """Starts nothing yet.

        Args:
            concurrency: threads that send.
            buffers: how many there may be.
        """
        self._pullers = _Crew("sucrose-upload", 1)
        self._senders = _Crew("sucrose-send", concurrency)
        self._buffers: SimpleQueue[memoryview | None] = SimpleQueue()  # None: one that may still be made
        for _ in range(buffers):
            self._buffers.put(None)
        self.buffers_made = 0

    def pull(self, work: Callable[[], object]) -> None:
        """Has a file carried, after those that came before."""
        self._pullers.do(work)

    def send(self, work: Callable[[], object]) -> None:
        """Has something sent."""
        self._senders.do(work)

    def take_buffer(self, nbytes: int, check: Callable[[], object]) -> memoryview:
        """Memory of so many bytes; waits until there may be some more.

        Args:
            nbytes: its size.
            check: called now and then meanwhile; may raise.
        """
        buffer = self._next_buffer(check)
        if buffer is None:
            self.buffers_made += 1
        elif buffer.nbytes == nbytes:
            return buffer
        del buffer  # before there is another one
        return memoryview(bytearray(nbytes))

    def give_back(self, buffer: memoryview) -> None:
        """Lets others have a buffer, which must not be looked at any more."""
        self._buffers.put(buffer)

    def _next_buffer(self, check: Callable[[], object]) -> memoryview | None:
        while True:
            try:
                return self._buffers.get(timeout=_LOOK_UP_S)
            except Empty:
                check()

    def close(self) -> None:
        """Ends the threads when all is done that was asked for; returns at once."""
        self._pullers.close()
        self._senders.close()


class _Crew:
    """Up to `count` threads that do what they are given, in that order."""

    def __init__(self, name: str, count: int) -> None:
        self._name = name
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._places: SimpleQueue[None] = SimpleQueue()  # for threads that are not there
        for _ in range(count):
            self._places.put(None)

    def do(self, work: Callable[[], object]) -> None:
        self._work.put(work)
        with suppress(Empty):
            self._places.get_nowait()
            if not start_thread(self._run, self._name):
                self._places.put(None)
                self._do_what_is_left()

    def close(self) -> None:
        self._work.put(None)

    def _run(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=_LOOK_UP_S)
            except Empty:
                if main_thread_has_ended():
                    break
                continue
            if work is None:
                self._work.put(None)  # for the next thread
                break
            work()
            del work  # it has memory
        self._places.put(None)
        # Somebody may have relied on this thread just now, and started none.
        self._do_what_is_left()

    def _do_what_is_left(self) -> None:
        is_closed = False
        with suppress(Empty):
            while True:
                work = self._work.get_nowait()
                if work is None:
                    is_closed = True
                else:
                    work()
        if is_closed:
            self._work.put(None)

"""Operations on files that are no files of this machine: Python carries their bytes.

1. A relayed write gathers, digests and encodes as a write does, and hands out *blocks*, one after another in the
   order of the file. Whoever sends them (any threads, several blocks at once) releases each when it is sent.
2. A relayed read hands out *requests*, each for a part of the file. Whoever fetches them fills and completes them, in
   any order; digests, decoding and the way to the destinations are as in a read.
3. Blocks and requests lie in the engine's slots: what is out and not given back is all the memory that an operation
   takes, and the engine waits meanwhile. Nobody should hold one and wait for more than `max_inflight_nbytes`
   promises, nor wait for another operation with one in hand.
4. Whatever fails, everything unwinds at once: `next_block` and `next_request` raise the error, and so does `wait`. What
   is out stays readable and writable until it is given back.

A block or request that is garbage-collected without a word, after an exception for example, cancels its
operation; so does a ticket, and so does the end of the program.
"""

from __future__ import annotations

import atexit
import weakref
from typing import Protocol

from sucrose.engine.base import ReadTicket, WriteTicket


class Block(Protocol):
    """Consecutive bytes of the file as it is to be stored. Thread-safe."""

    @property
    def offset(self) -> int:
        """Of the first byte, in the stored file."""
        ...

    @property
    def data(self) -> memoryview:
        """The bytes, read-only, until `release`. At most about one chunk, and not empty."""
        ...

    def release(self) -> None:
        """Says that the bytes are sent. Their slot comes free when the last view of `data` is gone, too."""
        ...


class Request(Protocol):
    """Consecutive bytes that are wanted of the stored file. Thread-safe."""

    @property
    def offset(self) -> int:
        """Of the first byte, in the stored file."""
        ...

    @property
    def nbytes(self) -> int:
        """How many: about one chunk at most, and not none."""
        ...

    @property
    def data(self) -> memoryview:
        """Where they belong: writable memory of `nbytes` bytes, until `complete` or `fail`."""
        ...

    def complete(self) -> None:
        """Says that all of `data` is filled. It counts when the last view of `data` is gone, too."""
        ...

    def fail(self, error_number: int) -> None:
        """Ends the read with an OSError of this errno."""
        ...


class RelayedWriteTicket(WriteTicket, Protocol):
    """A relayed write under way. `wait` returns when all blocks have been released."""

    def next_block(self, timeout_s: float | None = None) -> Block | None:
        """The file's next block; blocks until it is there. None when all have been handed out.

        Raises:
            TimeoutError: it was not there within `timeout_s`.
            OSError: the write has failed or was cancelled; as `wait` raises it.
        """
        ...

    def fail(self, error_number: int) -> None:
        """Ends the write with an OSError of this errno, unless it has ended."""
        ...


class RelayedReadTicket(ReadTicket, Protocol):
    """A relayed read under way. `wait` returns when all requests have been completed, and their bytes are in place."""

    def next_request(self, timeout_s: float | None = None) -> Request | None:
        """What else is wanted; blocks until there is memory for it. None when all has been requested.

        Raises:
            TimeoutError: there was none within `timeout_s`.
            OSError: the read has failed or was cancelled; as `wait` raises it.
        """
        ...

    def fail(self, error_number: int) -> None:
        """Ends the read with an OSError of this errno, unless it has ended."""
        ...


class Stoppable(Protocol):
    """An operation that the end of the program stops."""

    def stop(self) -> None:
        """Cancels it where it is under way, and waits until it touches the program's memory no longer."""
        ...


_under_way: weakref.WeakSet[Stoppable] = weakref.WeakSet()


def stop_at_exit(operation: Stoppable) -> None:
    """Has it stopped before Python frees what it reads. Until then handlers of `atexit` may carry it on."""
    _under_way.add(operation)


def _stop_all() -> None:
    for operation in list(_under_way):
        operation.stop()


atexit.register(_stop_all)  # early, and therefore run late: after whatever still saves

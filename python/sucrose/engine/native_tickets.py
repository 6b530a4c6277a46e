"""Tickets of the C++ core, and what keeps their memory alive."""

from __future__ import annotations

import os
import weakref
from array import array
from collections.abc import Callable
from typing import Any

from sucrose.engine.base import CorruptChunk, Extents, ReadResult, StoredChunks, WriteResult


class NativeTicket:
    """Keeps the memory of an operation alive for as long as the core may touch it."""

    def __init__(self, submit: Callable[[bytes], Any], path: str, memory: Extents) -> None:
        self._tickets: list[Any] = []
        self._guard = self._stopped_when_dropped(memory)
        # Not `self._ticket = submit(…)`: Ctrl-C is raised between a return and an assignment, too,
        # and would lose the ticket of a job that goes on. In here no Python code runs in between.
        self._tickets.extend(map(submit, (os.fsencode(path),)))

    def progress(self) -> tuple[int, int]:
        done, total = self._tickets[0].progress()
        return done, total

    def cancel(self) -> None:
        self._tickets[0].cancel()

    def _wait(self, timeout_s: float | None) -> Any:
        outcome = self._tickets[0].wait(timeout_s)
        if outcome is None:
            done, total = self.progress()
            raise TimeoutError(f"{done} of {total} bytes were done after {timeout_s} s")
        self._guard.detach()  # on an error it stays with the ticket: Ctrl-C may come before the wait began
        return outcome

    def _stopped_when_dropped(self, memory: Extents | None) -> weakref.finalize[Any, Any]:
        # Not __del__: that would run after each success, too, and Ctrl-C in it is lost.
        guard = weakref.finalize(self, _stop, os.getpid(), self._tickets, memory)
        guard.atexit = False
        return guard


def _stop(process: int, tickets: list[Any], memory: Extents | None) -> None:  # noqa: ARG001 - is held until this is over
    """Of a ticket that was dropped while under way, perhaps."""
    if os.getpid() != process:
        return  # a forked child has no part in it
    for ticket in tickets:
        ticket.cancel()
        while not _is_over(ticket):
            pass


def _is_over(ticket: Any) -> bool:
    try:
        ticket.wait()
    except KeyboardInterrupt:
        return False  # that it was raised does not mean that the wait came to an end
    except Exception:  # noqa: BLE001, S110 - nobody is left who could be told
        pass
    return True


class NativeWriteTicket(NativeTicket):
    """`engine.base.WriteTicket` of the core."""

    def wait(self, timeout_s: float | None = None) -> WriteResult:
        nbytes, digests = self._wait(timeout_s)
        stored = self._tickets[0].stored()
        return WriteResult(
            nbytes=nbytes,
            digests=digests,
            stored=None if stored is None else StoredChunks(sizes=array("Q", stored[0]), groups=stored[1]),
        )

    def wait_safe(self, timeout_s: float | None = None) -> None:
        if not self._tickets[0].wait_safe(timeout_s):
            raise TimeoutError(f"the sources were still being read after {timeout_s} s")

    def wait_staged(self, timeout_s: float | None = None) -> None:
        if not self._tickets[0].wait_staged(timeout_s):
            raise TimeoutError(f"the sources were still needed after {timeout_s} s")
        self._guard.detach()

    def staged(self) -> bool:
        try:
            self.wait_staged(0.0)
        except TimeoutError as error:
            if error.errno is not None:  # the storage's own time-out, not ours
                raise
            return False
        return True

    def staging(self) -> str:
        return str(self._tickets[0].staging())


class NativeReadTicket(NativeTicket):
    """`engine.base.ReadTicket` of the core."""

    def wait(self, timeout_s: float | None = None) -> ReadResult:
        nbytes, corrupt, crc32s = self._wait(timeout_s)
        return ReadResult(
            nbytes=nbytes,
            corrupt=[CorruptChunk(index=i, expected=e, found=f) for i, e, f in corrupt],
            crc32s=crc32s,
        )

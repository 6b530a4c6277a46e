"""Requests of clients that are coroutines, made from threads, and given up when nothing moves."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, final

from sucrose.errors import ForkError
from sucrose.storage.objects.failures import StalledError
from sucrose.storage.objects.gate import Gate
from sucrose.storage.objects.giving_up import check, current, next_look_s
from sucrose.storage.objects.lasting_executor import LastingExecutor

T = TypeVar("T")


@final
class Progress:
    """When a byte of a transfer last moved. Belongs to the loop's thread."""

    def __init__(self) -> None:
        self.moved_at = time.monotonic()
        self.nbytes = 0

    def advance(self, nbytes: int) -> None:
        """Notes that so many bytes were sent or have arrived."""
        self.moved_at = time.monotonic()
        self.nbytes += nbytes


@final
class EventLoop:
    """Runs coroutines on a loop that another thread drives. Any thread but that one may call anything.

    No call returns before its coroutine is over, Ctrl-C included: it may be using the caller's memory.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, stall_timeout_s: float, answer_timeout_s: float) -> None:
        self._loop = loop
        loop.call_soon_threadsafe(loop.set_default_executor, LastingExecutor())
        self._pid = os.getpid()
        self._stall_timeout_s = stall_timeout_s
        self._answer_timeout_s = answer_timeout_s

    def transfer(self, request: Callable[[Progress], Awaitable[T]]) -> T:
        """Runs a request that tells how it gets on.

        Raises:
            StalledError: it did not for `stall_timeout_s`.
        """
        progress = Progress()
        return self._run(self._watched(request(progress), progress, self._stall_timeout_s, current()))

    def ask(self, request: Awaitable[T]) -> T:
        """Runs a request without a transfer.

        Raises:
            StalledError: there was no answer within `answer_timeout_s`.
        """
        return self._run(self._watched(request, Progress(), self._answer_timeout_s, current()))

    async def _watched(
        self, request: Awaitable[T], progress: Progress, timeout_s: float, given_up: threading.Event | None
    ) -> T:
        task = asyncio.ensure_future(request)
        try:
            while not task.done():
                check(given_up)
                left_s = progress.moved_at + timeout_s - time.monotonic()
                if left_s <= 0:
                    raise StalledError(
                        f"no byte has moved for {timeout_s:g} s, after {progress.nbytes} bytes of the transfer"
                        if progress.nbytes
                        else f"no answer within {timeout_s:g} s"
                    )
                await asyncio.wait({task}, timeout=next_look_s(given_up, left_s))
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        return task.result()

    @staticmethod
    def _cancel(tasks: list[asyncio.Task[T]]) -> None:
        tasks[0].cancel()

    def _run(self, request: Coroutine[Any, Any, T]) -> T:
        if os.getpid() != self._pid:
            request.close()
            raise ForkError(
                f"the storage was opened in process {self._pid}, and its connections do not survive a fork: open it "
                f"again in process {os.getpid()}"
            )
        tasks: list[asyncio.Task[T]] = []
        is_over = Gate()

        def start() -> None:
            tasks.append(self._loop.create_task(request))
            tasks[0].add_done_callback(lambda _: is_over.open())

        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError:  # the loop is closed: the interpreter is on its way out
            request.close()
            raise
        try:
            is_over.wait()
        except BaseException:
            self._loop.call_soon_threadsafe(self._cancel, tasks)
            is_over.wait()
            raise
        return tasks[0].result()

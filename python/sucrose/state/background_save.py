"""A save that goes on in a thread of its own."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from sucrose.errors import ForkError
from sucrose.snapshot.main_thread import main_thread_has_ended
from sucrose.snapshot.thread_start import start_thread

_LOOK_AGAIN_S = 0.1


class BackgroundSave:
    """Implements `PendingSave`. Thread-safe, also for signal handlers: nothing here waits for a lock of another.

    The thread is no daemon: Python waits for it at the end of the program. Where that has come already
    the save is over when the constructor returns.

    Args:
        work: saves, and raises what has failed.
        where: for messages.
    """

    def __init__(self, work: Callable[[], object], where: str) -> None:
        self._work: Callable[[], object] | None = work
        self._where = where
        self._pid = os.getpid()
        self._began = time.monotonic()
        self._took_s = 0.0
        self._error: Exception | None = None
        self._has_ended = False
        self._waiters: deque[threading.Lock] = deque()
        """Held locks of threads that wait for the end."""
        if main_thread_has_ended() or not start_thread(self._run, "sucrose-save"):
            self._run()

    def done(self) -> bool:
        """Whether it has ended.

        Raises:
            ForkError: it goes on in another process.
        """
        self._check_process()
        return self._has_ended

    def wait(self, timeout_s: float | None = None) -> None:
        """Blocks until it has ended.

        Raises:
            TimeoutError: not within `timeout_s`.
            ForkError: it goes on in another process.
            Exception: what it has failed with; every call raises it anew.
        """
        if not self.wait_ended(timeout_s):
            raise TimeoutError(f"the states of {self._where} are still being saved after {timeout_s} s")
        if self._error is not None:
            raise self._error.with_traceback(None)

    def wait_ended(self, timeout_s: float | None = None) -> bool:
        """Blocks until it has ended, well or not; False on time-out."""
        self._check_process()
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        while not self._has_ended and (left_s := deadline - time.monotonic()) > 0:
            waiter.acquire(timeout=min(left_s, _LOOK_AGAIN_S))
        with suppress(ValueError):
            self._waiters.remove(waiter)
        return self._has_ended

    def took_s(self) -> float:
        """Seconds from the beginning to the end."""
        return self._took_s

    def is_of_this_process(self) -> bool:
        """Whether it was not begun by the process that this one was forked from."""
        return os.getpid() == self._pid

    def _run(self) -> None:
        work = self._work
        assert work is not None
        try:
            work()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            self._error = error.with_traceback(None)
        finally:
            self._work = None  # and with it the copies of the states
            self._took_s = time.monotonic() - self._began
            self._has_ended = True
            for waiter in self._waiters.copy():
                with suppress(RuntimeError):  # it has come to its time-out
                    waiter.release()

    def _check_process(self) -> None:
        if not self.is_of_this_process():
            raise ForkError(
                f"the states of {self._where} are being saved by process {self._pid}, and cannot be waited for in its "
                f"forked child {os.getpid()}: do that in the parent"
            )

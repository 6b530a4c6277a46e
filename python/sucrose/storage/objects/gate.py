"""Waiting for something that happens once, in a thread that a signal handler may interrupt anywhere."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress


class Gate:
    """Closed until `open`. Thread-safe.

    Unlike `threading.Event` it has no lock that whoever waits holds now and then: a signal handler that comes just
    then, and saves, would keep the thread that opens the gate from ever doing so.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._waiters: deque[threading.Lock] = deque()
        """Held locks of those that wait."""

    def open(self) -> None:
        """Lets all go who wait."""
        self.is_open = True
        for waiter in self._waiters.copy():
            with suppress(RuntimeError):  # it has come to its time-out
                waiter.release()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Blocks until the gate is open; False on time-out."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        if not self.is_open:  # who opens it from here on finds the waiter
            waiter.acquire(timeout=-1 if timeout_s is None else timeout_s)
        with suppress(ValueError):
            self._waiters.remove(waiter)
        return self.is_open

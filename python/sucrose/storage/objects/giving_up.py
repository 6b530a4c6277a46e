"""Requests that nobody waits for any more are given up: at once, and not after all of their attempts."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_POLL_S = 0.1

_given_up: ContextVar[threading.Event | None] = ContextVar("given_up", default=None)


class GivenUpError(InterruptedError):
    """The caller does not want the request any more."""


@contextmanager
def given_up_on(event: threading.Event) -> Iterator[None]:
    """Requests that this thread makes in the block end with an error soon after the event is set."""
    token = _given_up.set(event)
    try:
        yield
    finally:
        _given_up.reset(token)


def current() -> threading.Event | None:
    """The event of this thread's requests; None where they cannot be given up."""
    return _given_up.get()


def check(event: threading.Event | None) -> None:
    """Raises GivenUpError where the event is set."""
    if event is not None and event.is_set():
        raise GivenUpError(errno.EINTR, "the operation was cancelled")


def pause(seconds: float) -> None:
    """Sleeps; raises GivenUpError as soon as the request that waits is given up."""
    event = current()
    if event is None:
        time.sleep(seconds)
    else:
        event.wait(seconds)
        check(event)


def next_look_s(event: threading.Event | None, left_s: float) -> float:
    """How long to wait for something else until the event is to be looked at."""
    return left_s if event is None else min(left_s, _POLL_S)

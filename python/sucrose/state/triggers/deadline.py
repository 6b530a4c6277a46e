"""Ends a program that wants to stop by itself after SIGTERM, but does not before the grace is over."""

from __future__ import annotations

import math
import signal
import threading
import time

from sucrose.state.triggers.participants import expected_s
from sucrose.state.triggers.process import PROCESS

_POLL_S = 0.1
_MARGIN = 0.1
"""This part of the grace remains for what comes after the save."""


def watch_deadline() -> bool:
    """Starts the watch, unless there is one; false where no thread can be started. In a signal handler."""
    if _Watch.signalled_at == PROCESS.signalled_at:
        return True
    _Watch.signalled_at = PROCESS.signalled_at
    try:
        threading.Thread(target=_watch, args=(PROCESS.signalled_at,), name="sucrose-deadline", daemon=True).start()
    except RuntimeError:
        return False
    return True


class _Watch:
    signalled_at: float | None = None
    """The SIGTERM whose grace is watched."""


def _watch(signalled_at: float | None) -> None:
    main = threading.main_thread().ident
    assert main is not None
    while not PROCESS.is_ending and PROCESS.signalled_at == signalled_at:
        left_s = PROCESS.left_s()
        spare_s = 0.0 if left_s == math.inf else left_s - _needed_s()
        if spare_s <= 0:
            PROCESS.time_is_up = True
            signal.pthread_kill(main, signal.SIGTERM)  # the main thread itself, lest it sleep on
            return
        time.sleep(min(spare_s, _POLL_S))


def _needed_s() -> float:
    """For the last saves, and one in flight before them."""
    needed_s = PROCESS.grace_s * _MARGIN + expected_s()
    saver = PROCESS.saver
    if saver is not None:
        needed_s += (2 if saver.in_flight() else 1) * saver.expected_s()
    return needed_s

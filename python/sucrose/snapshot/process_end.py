"""What becomes of pending snapshots when the process ends or forks.

1. The main thread ends: Python waits for the queue's thread, which commits what is pending.
2. The handler here runs after that. Something is left only where Ctrl-C has interrupted Python's own
   waiting: then everything is cancelled, so that the process ends soon and leaves no temporaries.
   Threads that came late are waited for.
3. Failures that nobody was told of are reported, and the exit status becomes other than 0.

A forked child begins with an empty queue, and with an empty list of failures: its end commits,
cancels, reports and deletes nothing of its parent's.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from contextlib import suppress

from sucrose.engine import fail_exit
from sucrose.snapshot.commit_queue import CommitQueue, QueuedTake

logger = logging.getLogger(__name__)

COMMITS = CommitQueue()
"""The one queue of this process."""


class _Ended:
    """How far this process has come."""

    reported = False
    """Step 3 has begun."""


_LEAVE_WITHIN_S = 10.0  # after Ctrl-C twice: what is in the middle of an fsync may take for ever


def commit_in_background(queued: QueuedTake) -> None:
    """Adds a take to the queue; where step 3 is over already, that is repeated for it."""
    COMMITS.add(queued)
    if _Ended.reported:
        end_of_process()


def end_of_process() -> None:
    """Steps 2 and 3."""
    _Ended.reported = True
    left = COMMITS.under_way()
    interrupted = [queued for queued in left if not queued.is_late]
    for queued in left:
        if not interrupted:
            COMMITS.wait_ended(queued)
    try:
        lost = _cancel_all(left) if interrupted else []
    except BaseException:  # Ctrl-C once more: nobody knows what became of them
        fail_exit()
        raise
    for queued in lost:
        _report(f"saving {queued.path!r} was interrupted at the end of the program; nothing was committed")
    failed = bool(lost)
    while (untold := COMMITS.pop_untold()) is not None:
        error = untold.error
        _report(f"saving {untold.path!r} failed, and nobody had asked: {type(error).__name__}: {error}")
        failed = True
    if failed:
        fail_exit()


def _cancel_all(takes: list[QueuedTake]) -> list[QueuedTake]:
    """Those of the takes that were not committed."""
    for queued in takes:
        COMMITS.give_up(queued)
    deadline = time.monotonic() + _LEAVE_WITHIN_S
    for queued in takes:
        COMMITS.wait_ended(queued, max(0.0, deadline - time.monotonic()))
    return [queued for queued in takes if not queued.is_in_place]


def _report(message: str) -> None:
    """To stderr in any case, and to the program's log if it has one."""
    if logger.hasHandlers():
        logger.error(message)
    with suppress(AttributeError, OSError, ValueError):  # stderr may be None, broken or closed
        sys.stderr.write(f"sucrose: {message}\n")
        sys.stderr.flush()


atexit.register(end_of_process)
os.register_at_fork(after_in_child=COMMITS.forget_inherited)

"""For programs that want to stop where it suits them, and not in the middle of a step."""

from __future__ import annotations

import math
import threading
import time

from sucrose.state.collective.job import ranks_of_job
from sucrose.state.triggers import arm
from sucrose.state.triggers.agreed_stop import should_stop_with_others
from sucrose.state.triggers.last_save import TERMINATED, terminate
from sucrose.state.triggers.participants import of_this_thread, save_participants
from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.warned import save_due

_POLL_S = 0.02


def should_stop() -> bool:
    """Whether SIGTERM or one of the signals of `SUCROSE_WARN_SIGNALS` came.

    A program that asks promises to stop soon after the answer was yes. SIGTERM does not end it any more
    in the middle of a step: it ends by itself, all is saved then, and a status of 0 becomes 143.
    Where it goes on nevertheless, SIGTERM saves and ends it shortly before `SUCROSE_GRACE_S` is over.
    Call it early, in the main thread: the first call makes the promise, and installs the handler of
    SIGTERM where no state manager or scenario has done so.

    Under a process group of several ranks all of them make this call, as often: it becomes true on all at the same
    call, whichever rank the signal came to, and where saves in the background are due they begin at the same
    call as well. Each call asks the store of the group once; no collective runs. Ranks that need each other in each
    step cannot wait for one another in vain: when a signal has come, a rank waits only at a call after which it has
    done its part of all steps, and the others come to that call without it. Ranks that do not need each other
    come to it anyhow. A rank whose process has ended is not waited for.

    Raises:
        ConfigError: an option in the environment is malformed.
        RankError: a signal has come, and ranks that are alive made no call for `SUCROSE_RANK_TIMEOUT_S`.

    Example:
        >>> import sucrose
        >>> for step in range(3):
        ...     if sucrose.should_stop():
        ...         break
        >>> step
        2
    """
    if not PROCESS.asks_to_stop:
        arm(ends_on_sigterm=True)
        PROCESS.asks_to_stop = True
    ranks = ranks_of_job()
    return PROCESS.should_stop if ranks is None else should_stop_with_others(ranks)


def save_only_at_boundaries(*, to_the_end: bool = True) -> None:
    """This thread calls `at_boundary` where all fits together: SIGTERM waits for that, and in the main thread saves.

    When the grace is almost over, SIGTERM waits no longer.

    Args:
        to_the_end: of the program; otherwise as long as the thread has something that saves itself.

    Raises:
        ConfigError: an option in the environment is malformed.
    """
    arm(ends_on_sigterm=True)
    thread = threading.current_thread()
    PROCESS.boundary_threads[thread] = to_the_end or PROCESS.boundary_threads.get(thread, False)


def at_boundary() -> None:
    """Does what has waited for a boundary.

    After SIGTERM, what saves itself and was added by this thread does so now. The main thread then waits
    for the boundaries of the others, and ends the program; other threads end.

    Raises:
        SystemExit: with status 143, when SIGTERM came.
    """
    if PROCESS.must_stop:
        _stop()
    if PROCESS.save_is_due and _is_the_program():
        save_due()


def _stop() -> None:
    own = of_this_thread()
    if not _is_the_program():
        save_participants(own, at_boundary=True)
        PROCESS.boundary_threads.pop(threading.current_thread(), None)
        raise SystemExit(TERMINATED)  # nothing else ends a thread in silence
    PROCESS.is_terminating = True  # another SIGTERM would do no more than this one
    try:
        save_participants(own, at_boundary=True)
    finally:
        PROCESS.is_terminating = False
    _wait_for_other_threads()
    terminate(saved=own)


def _is_the_program() -> bool:
    """Whether this thread is the main one, or the one whose boundaries are the program's to its end."""
    thread = threading.current_thread()
    return thread is threading.main_thread() or PROCESS.boundary_threads.get(thread, False)


def _wait_for_other_threads() -> None:
    """Until they have come to their boundaries. At the end of the grace SIGTERM comes in between."""
    spared = (threading.main_thread(), threading.current_thread())
    while PROCESS.left_s() < math.inf and not PROCESS.time_is_up:
        if not any(thread.is_alive() for thread in [*PROCESS.boundary_threads] if thread not in spared):
            return
        time.sleep(_POLL_S)

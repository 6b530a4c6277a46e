"""For programs that want to stop where it suits them, and not in the middle of a step."""

from __future__ import annotations

from sucrose.state.triggers import arm
from sucrose.state.triggers.last_save import terminate
from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.warned import save_due


def should_stop() -> bool:
    """Whether SIGTERM or one of the signals of `SUCROSE_WARN_SIGNALS` came.

    A program that asks promises to stop soon after the answer was yes. SIGTERM does not end it any more
    in the middle of a step: it ends by itself, its states are saved then, and a status of 0 becomes 143.
    Where it goes on nevertheless, SIGTERM saves and ends it shortly before `SUCROSE_GRACE_S` is over.
    Call it early, in the main thread: the first call makes the promise, and installs the handler of
    SIGTERM where no state manager has done so.

    Raises:
        ConfigError: an option in the environment is malformed.

    Example:
        >>> import sucrose
        >>> for step in range(3):
        ...     if sucrose.should_stop():
        ...         break
        >>> step
        2
    """
    if not PROCESS.stops_by_itself:
        _stop_by_itself()
    return PROCESS.should_stop


def save_only_at_boundaries() -> None:
    """The program calls `at_boundary` where its states fit together: saves, and SIGTERM, wait for that.

    When the grace is almost over, SIGTERM waits no longer.

    Raises:
        ConfigError: an option in the environment is malformed.
    """
    PROCESS.saves_at_boundaries = True
    _stop_by_itself()


def at_boundary() -> None:
    """Does what has waited for a boundary. In the main thread.

    Raises:
        SystemExit: with status 143, when SIGTERM came; everything is saved.
    """
    if PROCESS.must_stop:
        terminate()
    if PROCESS.save_is_due:
        save_due()


def _stop_by_itself() -> None:
    arm(ends_on_sigterm=True)
    PROCESS.stops_by_itself = True

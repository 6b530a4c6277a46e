"""The save before the end of the program, and the end by SIGTERM.

What saves itself does so first, see `participants`. Then the states of the group:

1. A save that is in flight is finished. Is there no time for another after that, it was the last one.
2. Otherwise everything is saved once more, as it is now. In a signal handler only where no other thread
   keeps that from beginning: it may wait for a lock of the code that the signal has interrupted, and
   gets it when that is left. Then the exit handler saves.
3. SIGTERM raises `Terminated` then. Where that comes to the top of the program, nothing has changed
   since, and the exit handler saves nothing; a program that catches it goes on, and is saved again.
"""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Collection
from typing import NoReturn

from sucrose.engine import fail_exit
from sucrose.snapshot.main_thread import main_thread_has_ended
from sucrose.state.collective.job import ranks_of_job
from sucrose.state.triggers.last_save_of_ranks import save_with_others
from sucrose.state.triggers.participants import Participant, save_participants
from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.reports import report, tell

TERMINATED = 128 + signal.SIGTERM
"""The exit status that shells give to programs which SIGTERM has ended."""


class Terminated(SystemExit):
    """Ends the program with status 143, as `sys.exit(143)` would."""

    has_left = False
    """One of these has left the program, and no other thread keeps that from ending."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)

    def __reduce__(self) -> tuple[type[Terminated], tuple[()]]:
        return Terminated, ()

    @property
    def code(self) -> int:  # type: ignore[override]  # an attribute there, which only Python itself sets
        """143. The interpreter asks for it when nobody has caught the exception, from below all frames."""
        if sys._getframe().f_back is None:  # noqa: SLF001 - the way to look at frames
            threads = [thread for thread in threading.enumerate() if not thread.daemon]
            Terminated.has_left = threads == [threading.main_thread()]
        return TERMINATED


def terminate(cause: BaseException | None = None, *, saved: Collection[Participant] = ()) -> NoReturn:
    """Saves and ends the program. In the main thread.

    Args:
        cause: what the program's own handler of the signal has raised.
        saved: what need not save itself again.

    Raises:
        Terminated: always.
    """
    PROCESS.is_terminating = True
    try:
        save_participants(but=saved)
        if _nobody_is_in_the_way():
            save_for_the_last_time()
    finally:
        PROCESS.is_terminating = False
    if main_thread_has_ended():  # Python waits for other threads, and has made up its mind about the status
        PROCESS.exit_status = TERMINATED
        Terminated.has_left = True
    raise Terminated from cause


def _nobody_is_in_the_way() -> bool:
    saver = PROCESS.saver
    patience_s = min(PROCESS.left_s(), PROCESS.grace_s) / 2
    if saver is None or saver.wait_for_others(patience_s):
        return True
    tell(f"SIGTERM: another thread has been looking at the states for {patience_s:.1f} s; they are saved at the exit")
    return False


def is_saved_already() -> bool:
    """Whether a save before the end would save what is saved, or come too late."""
    saver = PROCESS.saver
    if saver is None or PROCESS.saved_changes is None:
        return False
    if PROCESS.left_s() < saver.expected_s():
        return True
    return Terminated.has_left and PROCESS.saved_changes == saver.changes


def save_for_the_last_time() -> bool:
    """Steps 1 and 2; false where a save has failed, which is reported."""
    saver = PROCESS.saver
    if saver is None:
        return True
    if saver.in_flight():
        saves = saver.saves
        left_s = PROCESS.left_s()
        if not saver.finish_before_end(None if left_s == math.inf else left_s):
            report(f"the states are still being saved to {saver.checkpoints.where}, {PROCESS.grace_s} s after SIGTERM")
            return False
        if saver.saves > saves and PROCESS.left_s() < saver.expected_s():
            tell("SIGTERM: the save that was in flight is the last one, there is no time for another")
            PROCESS.saved_changes = saver.changes
            return True
    if not PROCESS.saves_at_exit:
        return True
    if ranks_of_job() is not None:
        return save_with_others(saver)
    return _save() or _save(is_last=True)


def _save(*, is_last: bool = False) -> bool:
    """Is tried twice: a handler may raise in the middle, such as torch's when its workers are killed as well."""
    saver = PROCESS.saver
    assert saver is not None
    changes = saver.changes
    try:
        saver.save()
    except Exception as error:  # noqa: BLE001 - the end of the program goes on
        if is_last:
            report(
                f"saving the states to {saver.checkpoints.where} failed, earlier ones are untouched: "
                f"{type(error).__name__}: {error}"
            )
        return False
    PROCESS.saved_changes = changes
    return True


def end_process() -> None:
    """Gives the process its status. The exit handler is done."""
    PROCESS.has_ended = True
    if PROCESS.exit_status:
        fail_exit(PROCESS.exit_status)

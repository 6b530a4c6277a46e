"""Saves that were asked for, and begin as soon as nothing is in their way."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from sucrose.state.collective.job import ranks_of_job
from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.reports import report

if TYPE_CHECKING:
    from sucrose.state.saver import Saver

_POLL_S = 0.02


def save_soon() -> None:
    """Begins a save, in the handler of a warning: at once, at the next boundary, or when nothing is in its way."""
    saver = PROCESS.saver
    if saver is None or PROCESS.is_ending or PROCESS.is_terminating:
        return
    if PROCESS.saves_at_boundaries or (PROCESS.asks_to_stop and ranks_of_job() is not None):
        PROCESS.save_is_due = True
    elif not saver.paused and not saver.in_flight() and saver.wait_for_others(0):
        _try_begin(saver)
    else:  # also where one is in flight, which may have begun long before the warning
        threading.Thread(target=_begin_later, args=(saver,), name="sucrose-warned", daemon=True).start()


def save_due() -> None:
    """Begins the save that is due, at a boundary; leaves it to a later one where it cannot begin yet."""
    saver = PROCESS.saver
    if saver is not None and not saver.paused and not saver.in_flight():
        PROCESS.save_is_due = False
        _try_begin(saver)


def save_agreed() -> None:
    """Begins a save that all ranks begin at this moment, after one that is in flight."""
    saver = PROCESS.saver
    if saver is not None:
        try:
            saver.begin(unless_paused=True, waits=True, is_agreed=True)
        except Exception as error:  # noqa: BLE001 - the program goes on
            report(f"a save of all ranks could not begin: {type(error).__name__}: {error}")


def _begin_later(saver: Saver) -> None:
    while saver.paused or saver.in_flight():
        time.sleep(_POLL_S)
    if PROCESS.saver is saver and not PROCESS.is_ending:
        _try_begin(saver)


def _try_begin(saver: Saver) -> bool:
    try:
        return saver.begin(unless_paused=True) is not None
    except Exception as error:  # noqa: BLE001 - the program goes on
        report(f"a save in the background could not begin: {type(error).__name__}: {error}")
        return False

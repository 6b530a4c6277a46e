"""What is saved when the program ends: by itself, an exception, `sys.exit` or Ctrl-C.

Python waits for threads before it calls exit handlers. This one runs before that of the snapshots,
which was registered earlier and waits for what this one may have left.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util

import sucrose.snapshot.process_end  # noqa: F401 - its handler is registered before ours, and runs after
from sucrose.state.collective.departures import tell_departure
from sucrose.state.triggers.last_save import end_process, is_saved_already, save_for_the_last_time
from sucrose.state.triggers.participants import save_participants
from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.reports import report

_STOP_WITHIN_S = 5.0


def save_at_exit() -> None:
    """Registers the handler."""
    atexit.register(_at_exit)
    if multiprocessing.parent_process() is not None:  # forked ones end without exit handlers in many versions of Python
        multiprocessing.util.Finalize(None, _at_exit, exitpriority=0)


def _at_exit() -> None:
    if PROCESS.is_ending or not PROCESS.is_this_one():
        return
    PROCESS.is_ending = True
    try:
        if PROCESS.periodic is not None:
            PROCESS.periodic.stop(_STOP_WITHIN_S)
        if PROCESS.saver is not None:
            PROCESS.saver.stop_attending()
        is_saved = save_participants()
        is_saved = (is_saved_already() or save_for_the_last_time()) and is_saved
    except BaseException as error:  # noqa: BLE001 - Ctrl-C again: the program ends now
        report(f"the last save was interrupted by {type(error).__name__}; what was saved before is untouched")
        is_saved = False
    if not is_saved:
        PROCESS.exit_status = 1
    tell_departure()
    end_process()

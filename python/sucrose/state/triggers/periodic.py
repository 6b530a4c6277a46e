"""Saves every so many seconds, in the background."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from sucrose.state.triggers.process import PROCESS

if TYPE_CHECKING:
    from sucrose.state.saver import Saver

logger = logging.getLogger(__name__)

_POLL_S = 0.02


class PeriodicSaving:
    """A thread that begins a save when one is due, and no second one before that has ended.

    A save that is due during a pause, or while another save is in flight, begins after that. On several ranks that
    of rank 0 decides, and the others hear of it; where all ask `should_stop` they save at the same call of that.
    """

    def __init__(self, saver: Saver, interval_s: float) -> None:
        self._saver = saver
        self._interval_s = interval_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sucrose-periodic", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """No save begins from here on. Returns when the thread has ended, or after `timeout_s`."""
        self._is_over.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        due = time.monotonic() + self._interval_s
        while not self._is_over.wait(max(0.0, due - time.monotonic())):
            try:
                self._save_when_possible()
            except Exception as error:  # noqa: BLE001 - the next round may go better
                logger.error(  # noqa: TRY400 - a line each time, not a page
                    "a periodic save has failed, the next one is in %s s: %s: %s",
                    self._interval_s,
                    type(error).__name__,
                    error,
                )
            now = time.monotonic()
            due += self._interval_s
            if due < now:  # rounds that were missed are not made up for
                due = now + self._interval_s

    def _save_when_possible(self) -> None:
        collective = self._saver.collective()
        if collective is not None and collective.ranks.rank > 0:
            return
        while not self._is_over.is_set():
            if PROCESS.saves_at_boundaries or (collective is not None and PROCESS.asks_to_stop):
                PROCESS.save_is_due = True
                return
            if not PROCESS.is_terminating:
                pending = self._saver.begin(unless_paused=True)
                if pending is not None:
                    self._see_to_its_end()
                    return
                if not self._saver.paused and not self._saver.in_flight():
                    return  # there is nothing to save
            self._is_over.wait(_POLL_S)

    def _see_to_its_end(self) -> None:
        """So that an error is told now, and not by another save."""
        while not self._is_over.is_set() and not self._saver.finish(_POLL_S):
            pass

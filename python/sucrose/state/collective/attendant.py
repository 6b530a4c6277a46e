"""Takes part in saves that other ranks begin, for a program that does not know of them.

Saves in the background begin on one rank; this one joins as soon as it may look at its states, as a periodic save of
one rank would. SIGTERM comes to all ranks, but one that waits in a call outside of Python for a rank that has gone to
save will not come to its handler: after some patience this thread takes part in its place. The main thread is
held up then, and changes nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from sucrose.errors import RankError
from sucrose.snapshot.thread_start import start_thread
from sucrose.state.collective.calls import Calls
from sucrose.state.collective.occasion import Occasion
from sucrose.state.triggers.process import PROCESS

if TYPE_CHECKING:
    from sucrose.state.collective.saves import CollectiveSaves
    from sucrose.state.saver import Saver

logger = logging.getLogger(__name__)

_POLL_S = 0.2
_POLLS_TOGETHER = 1000
"""Requests of all ranks per second, about: with many of them each asks less often."""
_PATIENCE_S = 2.0


class Attendant:
    """A daemon thread. It ends where the store of the ranks does.

    Args:
        saver: of this process.
        saves: of all ranks.
    """

    def __init__(self, saver: Saver, saves: CollectiveSaves) -> None:
        self._saver = saver
        self._saves = saves
        self._calls = Calls(saves.ranks)
        self._heard = 0
        self._end_heard_at: float | None = None
        self._is_over = threading.Event()
        self._poll_s = max(_POLL_S, saves.ranks.world_size / _POLLS_TOGETHER)
        start_thread(self._run, "sucrose-attendant", daemon=True)

    def stop(self) -> None:
        """It takes part in nothing from here on."""
        self._is_over.set()

    def _run(self) -> None:
        try:
            while not self._is_over.wait(self._poll_s):
                count = self._calls.count()
                if count != self._heard and self._has_responded():
                    self._heard = count
        except RankError as error:
            logger.debug("saves of other ranks are not heard of any more: %s", error)

    def _has_responded(self) -> bool:
        """False where there is more to do for the calls that were made."""
        background = self._join_background()
        return self._stand_in() and background

    def _join_background(self) -> bool:
        if not self._saves.is_ahead(Occasion.BACKGROUND, self._calls.latest(Occasion.BACKGROUND)):
            return True
        if PROCESS.saves_at_boundaries:
            PROCESS.save_is_due = True
            return True
        if PROCESS.is_terminating:
            return False
        try:
            pending = self._saver.begin(unless_paused=True)
        except RankError:
            raise
        except Exception as error:  # noqa: BLE001 - the program goes on
            logger.error("a save of all ranks has failed here: %s: %s", type(error).__name__, error)  # noqa: TRY400
            return True
        return pending is not None or not (self._saver.paused or self._saver.in_flight())

    def _stand_in(self) -> bool:
        if not self._saves.is_ahead(Occasion.END, self._calls.latest(Occasion.END)):
            self._end_heard_at = None
            return True
        if self._end_heard_at is None:
            self._end_heard_at = time.monotonic()
        comes_by_itself = PROCESS.is_terminating or (PROCESS.stops_by_itself and not PROCESS.time_is_up)
        if comes_by_itself or time.monotonic() - self._end_heard_at < _PATIENCE_S:
            return False
        try:
            self._saver.stand_in()
        except RankError:
            raise
        except Exception as error:  # noqa: BLE001 - the other ranks were told
            logger.error("the last save of all ranks has failed here: %s: %s", type(error).__name__, error)  # noqa: TRY400
        return True

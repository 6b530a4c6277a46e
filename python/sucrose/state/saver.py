"""Saving all registered states, one save at a time, whoever asks for it.

The program's thread, the periodic thread, signal handlers and the end of the program all come here. A
handler may come in the middle of any method in the same thread: the lock is re-entrant, so that the
handler's save goes ahead of the one that it has interrupted, and adds a generation of its own.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress

from sucrose.errors import ForkError
from sucrose.state.checkpoints import Checkpoints, PendingSave
from sucrose.state.values import FrozenState

logger = logging.getLogger(__name__)


class Saver:
    """Saves all registered states or nothing. Thread-safe, and safe in signal handlers.

    Args:
        collect: takes the registered states apart; None where there is nothing to save.
        checkpoints: where they go.
    """

    def __init__(self, collect: Callable[[], Mapping[str, FrozenState] | None], checkpoints: Checkpoints) -> None:
        self.checkpoints = checkpoints
        self.changes = 0
        """Grows with every change of what is registered, so that one can tell whether there were any."""
        self.saves = 0
        """Grows with every save that was completed."""
        self._pid = os.getpid()
        self._collect = collect
        self._saving = threading.RLock()
        self._pauses: deque[None] = deque()
        self._pending: PendingSave | None = None
        self._expected_s = 0.0

    def save(self) -> bool:
        """Saves, after a save that is in flight; False where that was skipped.

        Raises:
            ForkError: this is a forked child; the states are its parent's.
            UnsupportedError: a state cannot be saved.
            OSError: writing failed; earlier checkpoints are untouched.
        """
        self._check_process()
        with self._saving:
            self.finish()
            began = time.monotonic()
            states = self._collect()
            if states is None:
                return False
            self.checkpoints.save(states)
            logger.info("the states were saved to %s", self.checkpoints.where)
            self._expected_s = time.monotonic() - began
            self.saves += 1
            return True

    def begin(self, *, unless_paused: bool = False, waits: bool = False) -> PendingSave | None:
        """Saves in the background; None where that was skipped, or another save is in flight.

        Args:
            unless_paused: skip it while periodic saving is paused.
            waits: for one that is in flight, instead.

        Raises:
            ForkError: this is a forked child.
            UnsupportedError: a state cannot be saved.
            OSError: writing could not begin.
        """
        self._check_process()
        with self._saving:
            if (self.in_flight() and not waits) or (unless_paused and self.paused):
                return None
            self.finish()
            states = self._collect()
            if states is None:
                return None
            self._pending = self.checkpoints.begin_save(states)
            return self._pending

    def in_flight(self) -> bool:
        """Whether a save goes on in the background."""
        pending = self._pending
        return pending is not None and not pending.done()

    def finish(self, timeout_s: float | None = None) -> bool:
        """Waits for the save in the background, and logs its error; False on time-out."""
        pending = self._pending
        if pending is None:
            return True
        with suppress(Exception):  # it may be that of the time-out, or one like it that the save has failed with
            pending.wait(timeout_s)
        if not pending.done():
            return False
        if self._pending is pending:  # of those who wait one tells what became of it
            self._pending = None
            self._tell_end(pending)
        return True

    def wait_for_others(self, timeout_s: float) -> bool:
        """Waits until no other thread looks at the states; False on time-out.

        For signal handlers: what the other thread waits for may be held by what they have interrupted.
        """
        is_free = self._saving.acquire(timeout=timeout_s)
        if is_free:
            self._saving.release()
        return is_free

    def expected_s(self) -> float:
        """How long a save has taken the last time; 0.0 before the first."""
        return self._expected_s

    def pause(self) -> None:
        """Holds periodic saves up until `resume`; returns when none looks at the states any more."""
        self._pauses.append(None)
        if os.getpid() == self._pid:  # a forked child has no periodic saves, and perhaps a lock that nobody releases
            with self._saving:
                pass

    def resume(self) -> None:
        """Takes one `pause` back; nothing happens where there is none."""
        if self._pauses:
            self._pauses.pop()

    @property
    def paused(self) -> bool:
        """Whether there are more pauses than resumes."""
        return bool(self._pauses)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkError(
                f"the states are registered in process {self._pid}, and saved there; this is its forked child "
                f"{os.getpid()}, whose copies nobody saves"
            )

    def _tell_end(self, pending: PendingSave) -> None:
        try:
            pending.wait()
        except Exception as error:  # noqa: BLE001 - nobody waits for this save but the next one
            logger.error("saving the states failed: %s: %s", type(error).__name__, error)  # noqa: TRY400
        else:
            logger.info("the states were saved to %s", self.checkpoints.where)
            self._expected_s = pending.took_s()
            self.saves += 1

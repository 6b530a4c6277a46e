"""Saving all registered states, one save at a time, whoever asks for it.

The program's thread, the periodic thread, signal handlers and the end of the program all come here. A
handler may come in the middle of any method in the same thread: the lock is re-entrant, so that the
handler's save goes ahead of the one that it has interrupted, and adds a generation of its own.

On several ranks a save is one of all of them (see `collective`). The lock is held while the own states are taken,
and not while the other ranks are waited for.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeGuard

from sucrose.errors import ForkError
from sucrose.options import current_options
from sucrose.state.checkpoints import Checkpoints, PendingSave
from sucrose.state.collective.attendant import Attendant
from sucrose.state.collective.job import ranks_of_job
from sucrose.state.collective.occasion import Occasion
from sucrose.state.collective.saves import CollectivePending, CollectiveSaves
from sucrose.state.values import FrozenState
from sucrose.state.workers import NoCheckpoints

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
        self._collective: deque[CollectiveSaves] = deque()
        """The first that was made counts: two threads may make one."""
        self._attendant: Attendant | None = None
        self._stood_in: PendingSave | None = None

    def save(self, occasion: Occasion = Occasion.CALL, *, limit_s: float | None = None, calls: bool = False) -> bool:
        """Saves, after a save that is in flight; False where that was skipped.

        Args:
            occasion: why.
            limit_s: how long to wait for the other ranks; None is the option `rank_timeout_s`.
            calls: for other ranks, which then come without asking their programs.

        Raises:
            ForkError: this is a forked child; the states are its parent's.
            UnsupportedError: a state cannot be saved.
            RankError: another rank did not come, or has failed; earlier checkpoints are untouched.
            OSError: writing failed; earlier checkpoints are untouched.
        """
        self._check_process()
        began = time.monotonic()
        collective = self.collective()
        if collective is None:
            with self._saving:
                self.finish()
                began = time.monotonic()
                is_saved = self._save_alone()
        else:
            is_saved = self._save_together(collective, occasion, limit_s, calls)
        if is_saved:
            logger.info("the states were saved to %s", self.checkpoints.where)
            self._expected_s = time.monotonic() - began
            self.saves += 1
        return is_saved

    def begin(
        self,
        occasion: Occasion = Occasion.BACKGROUND,
        *,
        unless_paused: bool = False,
        waits: bool = False,
        is_agreed: bool = False,
    ) -> PendingSave | None:
        """Saves in the background; None where that was skipped, or another save is in flight.

        Args:
            occasion: why.
            unless_paused: skip it while periodic saving is paused.
            waits: for one that is in flight, instead.
            is_agreed: all ranks are doing this: they need not be called, and are told where it is skipped here.

        Raises:
            ForkError: this is a forked child.
            UnsupportedError: a state cannot be saved.
            OSError: writing could not begin.
        """
        self._check_process()
        collective = self.collective()
        with self._saving:
            if unless_paused and self.paused:
                if is_agreed and collective is not None:
                    collective.skip(occasion, "is between pause_periodic_saving and resume_periodic_saving")
                return None
            if self.in_flight() and not waits:
                return None
            self._finish_before(occasion)
            if collective is not None:
                calls = occasion is Occasion.BACKGROUND and not is_agreed
                self._pending = self._begin_together(collective, occasion, calls=calls)
            else:
                states = self._collect()
                self._pending = None if states is None else self.checkpoints.begin_save(states)
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

    def finish_before_end(self, timeout_s: float | None = None) -> bool:
        """As `finish`, where the program ends: a save for which other ranks do not come is given up before that."""
        pending = self._pending
        if isinstance(pending, CollectivePending):
            limit_s = current_options().last_save_wait_s
            if _is_in_background(pending) or not self.finish(limit_s if timeout_s is None else min(limit_s, timeout_s)):
                pending.give_way()
        return self.finish(timeout_s)

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

    def collective(self) -> CollectiveSaves | None:
        """The saves of all ranks, where there are several.

        Raises:
            ConfigError: the checkpoints are for one.
            RankError: the store of their group does not answer.
        """
        if not self._collective:
            ranks = ranks_of_job()
            if ranks is None:
                return None
            made = CollectiveSaves(ranks, self.checkpoints)
            self._collective.append(made)
            if self._collective[0] is made:
                self._attendant = Attendant(self, made)
        return self._collective[0]

    def attend(self) -> None:
        """From here on takes part in what other ranks begin, where there are several."""
        if not isinstance(self.checkpoints, NoCheckpoints):
            self.collective()

    def stand_in(self) -> None:
        """Saves in the background before the end of the program, in the place of a main thread that is held up."""
        self._stood_in = self.begin(Occasion.END, waits=True)

    @property
    def has_stood_in(self) -> bool:
        """Whether such a save has succeeded."""
        stood_in = self._stood_in
        if stood_in is None or not stood_in.done():
            return False
        try:
            stood_in.wait()
        except Exception:  # noqa: BLE001 - it was told of when it ended
            return False
        return True

    def stop_attending(self) -> None:
        """The program ends: it takes part in the saves of other ranks by its own only."""
        if self._attendant is not None:
            self._attendant.stop()

    def _save_alone(self) -> bool:
        states = self._collect()
        if states is None:
            return False
        self.checkpoints.save(states)
        return True

    def _save_together(
        self, collective: CollectiveSaves, occasion: Occasion, limit_s: float | None, calls: bool
    ) -> bool:
        self._finish_before(occasion)
        with self._saving:
            this = collective.open(occasion, calls=calls)
            states = collective.arrive(this, self._collect, copies=False)
        return collective.complete(this, states, limit_s)

    def _begin_together(self, collective: CollectiveSaves, occasion: Occasion, *, calls: bool) -> PendingSave | None:
        this = collective.open(occasion, calls=calls)
        states = collective.arrive(this, self._collect, copies=True)
        if states is None:
            return None
        return CollectivePending(collective, this, states, self.checkpoints.where)

    def _finish_before(self, occasion: Occasion) -> None:
        if occasion is Occasion.END:
            self.finish_before_end()
        elif occasion is Occasion.CALL and _is_in_background(self._pending):
            self._pending.give_way()
        self.finish()

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


def _is_in_background(pending: PendingSave | None) -> TypeGuard[CollectivePending]:
    """Whether other ranks are waited for of which nobody knows when they come."""
    return isinstance(pending, CollectivePending) and pending.occasion is Occasion.BACKGROUND

"""What this process was asked for by signals, and how far it has come towards its end."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sucrose.state.saver import Saver
    from sucrose.state.triggers.participants import Participant
    from sucrose.state.triggers.periodic import PeriodicSaving


class Process:
    """One for each process. Signal handlers come in the middle of anything: it changes by single operations."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Nothing is to be saved, nothing was asked for: at the start, and in a forked child."""
        self.pid = os.getpid()
        self.is_armed = False
        """The handlers of the exit and of the options' signals are there."""
        self.saver: Saver | None = None
        self.saves_at_exit = True
        self.periodic: PeriodicSaving | None = None
        self.participants: dict[int, Participant] = {}
        """What saves itself before the end, by its identity."""
        self.grace_s = math.inf
        self.has_told_of_threads = False
        """That there are no signal handlers."""

        self.asks_to_stop = False
        """The program asks whether it should stop."""
        self.boundary_threads: dict[threading.Thread, bool] = {}
        """Threads that come to boundaries; true for those that do so to the end of the program."""
        self.should_stop = False
        """SIGTERM or a warning came."""
        self.warnings = 0
        """How many warnings have come."""
        self.must_stop = False
        """SIGTERM was noted and not obeyed yet."""
        self.save_is_due = False
        """At the next boundary."""
        self.signalled_at: float | None = None
        self.time_is_up = False
        """The grace is almost over, and the program has not stopped by itself."""

        self.is_terminating = False
        """The last save goes on, before the program is ended."""
        self.saved_changes: int | None = None
        """`Saver.changes` as the last save saw it; None where none has succeeded."""
        self.is_ending = False
        """The exit handler has begun."""
        self.has_ended = False
        """It is done."""
        self.exit_status = 0
        """Takes the place of a status of 0."""

    @property
    def stops_by_itself(self) -> bool:
        """The program asks whether it should stop, or has boundaries: a first SIGTERM is only noted."""
        return self.asks_to_stop or bool(self.boundary_threads)

    @property
    def saves_at_boundaries(self) -> bool:
        """States fit together at boundaries only: saves but the last one wait for the next."""
        return threading.main_thread() in self.boundary_threads or True in self.boundary_threads.values()

    def is_this_one(self) -> bool:
        """Whether this is not a child that was forked behind Python's back."""
        return self.pid == os.getpid()

    def note_sigterm(self) -> None:
        """The grace begins, unless one has begun and is not over."""
        self.should_stop = True
        if self.left_s() == math.inf:
            self.time_is_up = False
            self.signalled_at = time.monotonic()

    def left_s(self) -> float:
        """What is left of the grace. Infinite when it is over: whoever lives on then was spared."""
        if self.signalled_at is None:
            return math.inf
        left_s = self.signalled_at + self.grace_s - time.monotonic()
        return left_s if left_s > 0 else math.inf


PROCESS = Process()
"""The one of this process."""

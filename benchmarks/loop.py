"""A training loop in which one step is followed by a save, and what that did to the steps.

1. Some steps run undisturbed.
2. After one more step the save is started; the step and the call until it returns are one sample.
3. Steps go on while a thread waits until the save is complete and durable.
4. Some more steps follow.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS_BEFORE = 10
STEPS_AFTER = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTrace:
    """One run of the loop."""

    step_s: tuple[float, ...]
    """Every step, in order; that of the save with the time of the call in it."""
    save_step: int
    """Index of the step with the save."""
    stall_s: float
    """From the call until the program could go on."""
    durable_s: float
    """From the call until the save was complete and durable."""
    background_steps: int
    """Steps after the one with the save that began before it was durable."""

    @property
    def undisturbed_s(self) -> float:
        """The mean step before the save."""
        return statistics.fmean(self.step_s[: self.save_step])

    @property
    def slow_down_percent(self) -> float:
        """What the mean step in the background of the save takes longer; 0 where no step was in it."""
        first = self.save_step + 1
        beside = self.step_s[first : first + self.background_steps]
        return (statistics.fmean(beside) / self.undisturbed_s - 1) * 100 if beside else 0.0


def run_loop(
    step: Callable[[], None], before_save: Callable[[], None], start: Callable[[], Callable[[], None]]
) -> LoopTrace:
    """Runs the loop once.

    Args:
        step: one step, from beginning to end.
        before_save: called between the last undisturbed step and the save, and not timed.
        start: starts the save and returns what waits for its durable end.
    """
    step_s = [_timed(step) for _ in range(STEPS_BEFORE)]
    last = _timed(step)
    before_save()
    called = time.perf_counter()
    end = _End(start())
    stall_s = time.perf_counter() - called
    end.thread.start()
    step_s.append(last + stall_s)
    while end.thread.is_alive():
        step_s.append(_timed(step))
    background = len(step_s) - STEPS_BEFORE - 1
    ended = end.time()
    step_s += [_timed(step) for _ in range(STEPS_AFTER)]
    return LoopTrace(
        step_s=tuple(step_s),
        save_step=STEPS_BEFORE,
        stall_s=stall_s,
        durable_s=ended - called,
        background_steps=background,
    )


class _End:
    """Waits for the end of a save in a thread, and keeps its time or its error."""

    def __init__(self, wait: Callable[[], None]) -> None:
        self.thread = threading.Thread(target=self._run)
        self._wait = wait
        self._ended = 0.0
        self._error: Exception | None = None

    def time(self) -> float:
        """When the save ended; raises what it raised."""
        self.thread.join()
        if self._error is not None:
            raise self._error
        return self._ended

    def _run(self) -> None:
        try:
            self._wait()
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is raised again by `time`
            self._error = error
        self._ended = time.perf_counter()


def _timed(action: Callable[[], None]) -> float:
    before = time.perf_counter()
    action()
    return time.perf_counter() - before

"""Waiting for the engine, with a progress bar where somebody is looking."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

MAX_UNDER_WAY = 64
"""Tickets to have at one time: each holds a file open, and snapshots may have thousands of files."""

_PATIENCE_S = 2.0
_REFRESH_S = 0.1


def wait_showing_progress(
    tickets: Iterable[Any], description: str, *, show: bool | None, alive: Callable[[], None]
) -> list[Any]:
    """Waits for all `tickets` and returns their results, in order.

    Args:
        tickets: from one engine; an iterator that submits as it goes is asked for no more than
            `MAX_UNDER_WAY` before the oldest has ended.
        description: what stands before the bar.
        show: a bar always, never, or (None) on a terminal after two seconds.
        alive: called now and then meanwhile; may raise, too.

    Raises:
        OSError: the first ticket that failed, once none is running any more.
    """
    results: list[Any] = []
    under_way: deque[Any] = deque()
    bar = ProgressBar(description, show, alive)

    def wait_for_oldest() -> None:
        results.append(bar.wait(under_way))
        under_way.popleft()

    try:
        for ticket in tickets:
            under_way.append(ticket)
            if len(under_way) == MAX_UNDER_WAY:
                wait_for_oldest()
        while under_way:
            wait_for_oldest()
    except BaseException:
        cancel_and_wait(under_way)
        raise
    finally:
        bar.close()
    return results


def cancel_and_wait(tickets: Iterable[Any]) -> None:
    """Returns once nothing of the tickets is running any more; their errors are dropped."""
    kept = list(tickets)
    for ticket in kept:
        ticket.cancel()
    for ticket in kept:
        with suppress(Exception):  # whoever calls this has an error to tell already
            ticket.wait()


def ends_within(ticket: Any, timeout_s: float) -> bool:
    """Waits for a ticket, no longer than `timeout_s`; raises its error."""
    try:
        ticket.wait(timeout_s)
    except TimeoutError as error:
        if error.errno is not None:  # the storage's own time-out, not ours
            raise
        return False
    return True


class ProgressBar:
    """Appears once somebody has waited long enough. Calls `alive` now and then."""

    def __init__(self, description: str, show: bool | None, alive: Callable[[], None]) -> None:
        self._description = description
        self._alive = alive
        self._show = sys.stderr.isatty() if show is None else show
        self._deadline = time.monotonic() + (_PATIENCE_S if show is None else 0.0)
        self._bar: Any = None
        self._ended_nbytes = 0

    def wait(self, under_way: Sequence[Any]) -> Any:
        """Waits for the first of the tickets, which is not to come again, and returns its result."""
        ticket = under_way[0]
        while not ends_within(ticket, _REFRESH_S):
            self.update(under_way)
        if self._show:
            self.update(under_way)
            self._ended_nbytes += ticket.progress()[1]
        return ticket.wait()

    def close(self) -> None:
        """Ends the line, if there is one."""
        if self._bar is not None:
            self._bar.close()

    def update(self, under_way: Sequence[Any]) -> None:
        """Shows how far the tickets are, if anything is to be shown."""
        self._alive()
        if self._bar is None:
            if not self._show or time.monotonic() < self._deadline:
                return
            from tqdm.auto import tqdm

            self._bar = tqdm(desc=self._description, unit="B", unit_scale=True, unit_divisor=1024)
        progress = [ticket.progress() for ticket in under_way]
        self._bar.total = self._ended_nbytes + sum(total for _, total in progress)
        self._bar.update(self._ended_nbytes + sum(done for done, _ in progress) - self._bar.n)

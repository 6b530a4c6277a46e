"""Waiting for the engine, with a progress bar where somebody is looking."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sucrose.engine import Ticket

_PATIENCE_S = 2.0
_REFRESH_S = 0.1


def wait_showing_progress(tickets: Sequence[Any], description: str, *, show: bool | None) -> list[Any]:
    """Waits for all `tickets` and returns their results, in order.

    Args:
        tickets: from one engine.
        description: what stands before the bar.
        show: a bar always, never, or (None) on a terminal after two seconds.

    Raises:
        OSError: the first ticket that failed, once none is running any more.
    """
    if show is None:
        show = sys.stderr.isatty()
        patience_s = _PATIENCE_S
    else:
        patience_s = 0.0
    try:
        if show:
            _show_until_done(tickets, description, patience_s)
        return [ticket.wait() for ticket in tickets]
    except BaseException:
        for ticket in tickets:
            ticket.cancel()
        for ticket in tickets:
            with suppress(Exception):  # the first error is the one to tell
                ticket.wait()
        raise


def _show_until_done(tickets: Sequence[Any], description: str, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    bar: Any = None
    try:
        for ticket in tickets:
            while not _is_done(ticket):
                if bar is None and time.monotonic() >= deadline:
                    bar = _make_bar(tickets, description)
                if bar is not None:
                    bar.update(sum(t.progress()[0] for t in tickets) - bar.n)
        if bar is not None:
            bar.update(sum(t.progress()[0] for t in tickets) - bar.n)
    finally:
        if bar is not None:
            bar.close()


def _is_done(ticket: Any) -> bool:
    try:
        ticket.wait(_REFRESH_S)
    except TimeoutError as error:
        if error.errno is not None:  # the storage's own time-out, not ours
            raise
        return False
    return True


def _make_bar(tickets: Sequence[Ticket], description: str) -> Any:
    from tqdm.auto import tqdm

    total = sum(ticket.progress()[1] for ticket in tickets)
    return tqdm(total=total, desc=description, unit="B", unit_scale=True, unit_divisor=1024)

"""Which scenario a thread is in."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sucrose.scenarios.scenario import Scenario


class _Current(threading.local):
    scenario: Scenario | None = None


_CURRENT = _Current()


def get_current_scenario() -> Scenario:
    """The scenario that this thread has started last.

    Raises:
        RuntimeError: it has started none.
    """
    if _CURRENT.scenario is None:
        raise RuntimeError("there is no current scenario in this thread: start a scenario first, by sucrose.scenario")
    return _CURRENT.scenario


def auto_get_scenario(s: Scenario | None = None) -> Scenario:
    """`s`, or without one the current scenario.

    Raises:
        RuntimeError: there is neither.
    """
    return get_current_scenario() if s is None else s


def exchange_current(scenario: Scenario | None) -> Scenario | None:
    """Makes `scenario` the current one of this thread; returns the one before."""
    before, _CURRENT.scenario = _CURRENT.scenario, scenario
    return before

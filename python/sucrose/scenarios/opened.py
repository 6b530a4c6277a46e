"""The scenarios of this process that are open. One that is begun again ends the earlier object of it.

Otherwise the earlier one, as a notebook keeps it, would write its last epoch over newer ones at the exit.
"""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sucrose.scenarios.scenario import Scenario

_OPEN: dict[str, Scenario] = {}
"""By the folder of their checkpoints."""


def close_open(folder: str) -> None:
    """Closes the one that is open there; where that fails, it remains what is open."""
    earlier = _OPEN.get(folder)
    if earlier is not None:
        earlier.close()


def note_open(folder: str, scenario: Scenario) -> None:
    """It has been started, to its end."""
    _OPEN[folder] = scenario


def forget_open(folder: str, scenario: Scenario) -> None:
    """It is closed."""
    if _OPEN.get(folder) is scenario:
        del _OPEN[folder]


def _end_logs() -> None:
    """At the end of the program, whose epochs are saved elsewhere: also when it is killed by a signal."""
    for scenario in list(_OPEN.values()):
        scenario.end_logs()


atexit.register(_end_logs)
os.register_at_fork(after_in_child=_OPEN.clear)  # they are the parent's

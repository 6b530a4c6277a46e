"""Worker processes of multiprocessing: states are found nowhere there, and saved nowhere.

A process that is spawned imports the program's main module again, and with it makes a group and registers
states that are not the program's but copies in their first state. Neither may it put those over what the
program has saved, nor is there a point in loading a checkpoint in each worker.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Mapping
from typing import NoReturn

from sucrose.errors import ForkError
from sucrose.state.values import FrozenState

logger = logging.getLogger(__name__)


def is_worker() -> bool:
    """Whether this process is one: it is importing the main module again, or is daemonic as those of pools and loaders.

    Another process of multiprocessing, in which the program makes a group itself, has states of its own.
    """
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):  # while the main module is imported again; multiprocessing asks it, too
        return True
    if process.daemon:
        logger.warning("states are neither found nor saved in the daemonic process %s", process.name)
    return process.daemon


class NoCheckpoints:
    """Implements `Checkpoints` for workers."""

    where = "nowhere, as this process is a worker of another"

    def newest(self) -> None:
        """None."""

    def save(self, states: Mapping[str, FrozenState]) -> NoReturn:
        """Refuses.

        Raises:
            ForkError: always.
        """
        raise ForkError(
            f"the states {', '.join(states)} are not saved in process {os.getpid()}, a worker of {os.getppid()}, which "
            "has the program's: save there, below 'if __name__ == \"__main__\":'"
        )

    def begin_save(self, states: Mapping[str, FrozenState]) -> NoReturn:
        """Refuses, as `save`."""
        self.save(states)

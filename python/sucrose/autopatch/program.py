"""Which process is the program, and which only helps it.

The environment that asks for autopatch is inherited by all that the program starts. The first process
that trains marks it with its process id; a process that descends from a marked one is a helper of that.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
from contextlib import suppress

from sucrose.errors import UnsupportedError

logger = logging.getLogger(__name__)

_MARK = "SUCROSE_AUTOPATCH_PID"


def is_program() -> bool:
    """Whether this process is the one to save and to resume; marks it if so."""
    if multiprocessing.parent_process() is not None:
        logger.warning(
            "this process was started by multiprocessing: what it trains is not saved, autopatch follows the main "
            "process of a program only"
        )
        return False
    marked = os.environ.get(_MARK, "")
    if marked.isdigit() and int(marked) != os.getpid() and _descends_from(int(marked)):
        return False
    os.environ[_MARK] = str(os.getpid())
    return True


def refuse_several_ranks() -> None:
    """Each of them would resume on its own.

    Raises:
        UnsupportedError: this process is one of several ranks.
    """
    world_size = os.environ.get("WORLD_SIZE", "")
    if world_size.isdigit() and int(world_size) > 1:
        raise UnsupportedError(
            f"autopatch follows programs of a single rank, and this one is of {world_size} (WORLD_SIZE): unset "
            "LATTICE_AUTOPATCH, and save with sucrose.Snapshot or a StateManagerGroup on each rank"
        )


def _descends_from(ancestor: int) -> bool:
    process = os.getppid()
    while process > 1:
        if process == ancestor:
            return True
        process = _parent_of(process)
    return False


def _parent_of(process: int) -> int:
    with suppress(OSError, ValueError), open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])  # the name before it may hold anything
    return 0

"""The ranks of this program, for its states."""

from __future__ import annotations

import os
import sys

from sucrose.errors import ForkError
from sucrose.ranks import Ranks

_NAME = "states"


class _Job:
    ranks: Ranks | None = None


def ranks_of_job() -> Ranks | None:
    """The ranks of the default process group, where there are several; None for a program of one rank.

    The first group that is found counts until the end of the process: at the exit most programs have destroyed it.

    Raises:
        RankError: the store of the group does not answer.
    """
    if _Job.ranks is None:
        distributed = sys.modules.get("torch.distributed")
        if distributed is None or not distributed.is_available() or not distributed.is_initialized():
            return None
        try:
            ranks = Ranks.of()
        except ForkError:  # a worker: the group is its parent's, and so are the states
            return None
        if ranks.world_size > 1:
            _Job.ranks = ranks.apart(_NAME)
    return _Job.ranks


def known_ranks() -> Ranks | None:
    """The same, where they were asked for before: nothing is connected to."""
    return _Job.ranks


def _forget() -> None:
    _Job.ranks = None


os.register_at_fork(after_in_child=_forget)

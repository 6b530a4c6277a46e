"""Puts everything in place, once for each process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from sucrose.autopatch.import_hook import when_imported
from sucrose.autopatch.program import is_program, refuse_several_ranks

logger = logging.getLogger(__name__)


class _Installed:
    in_process: int | None = None


def install() -> None:
    """Patches torch as soon as it is imported, or now where it is."""
    if _Installed.in_process != os.getpid():
        _Installed.in_process = os.getpid()
        when_imported("torch", _patch)


def _patch() -> None:
    from sucrose.autopatch.patches import STATEFUL_LOADER, patch_stateful_loader, patch_torch
    from sucrose.autopatch.tracker import Tracker

    tracker = Tracker(is_program, lambda: _find_earlier_state(tracker), _at_boundary)
    patch_torch(tracker)
    when_imported(STATEFUL_LOADER, lambda: patch_stateful_loader(tracker))
    os.register_at_fork(after_in_child=tracker.turn_off)


def _find_earlier_state(tracker: Any) -> Callable[[], Any] | None:
    """Registers the program's state. Late: by now it is known which program runs."""
    from sucrose.autopatch.manager import KEY, TrainingState
    from sucrose.state.group import StateManagerGroup
    from sucrose.state.stopping import save_only_at_boundaries

    refuse_several_ranks()
    manager = TrainingState(KEY)
    manager.tracker = tracker
    StateManagerGroup().register(KEY, TrainingState)
    save_only_at_boundaries()
    return manager.load_earlier


def _at_boundary() -> None:
    from sucrose.state.stopping import at_boundary

    at_boundary()

"""When states are saved: at the exit, on signals and periodically. Handlers are installed once for each process."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from sucrose.options import current_options
from sucrose.state.triggers.exit import save_at_exit
from sucrose.state.triggers.participants import LastSave, Participant
from sucrose.state.triggers.periodic import PeriodicSaving
from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.signals import (
    can_install_handlers,
    handle_sigterm,
    handle_warnings,
    handles_sigterm,
)

if TYPE_CHECKING:
    from sucrose.state.saver import Saver
    from sucrose.state.settings import Settings

logger = logging.getLogger(__name__)


def install(saver: Saver, settings: Settings) -> None:
    """From here on `saver` saves when `settings` and the options say so.

    Outside of the main thread signals remain as they are, and a warning says so.

    Raises:
        ConfigError: an option in the environment is malformed.
    """
    arm(ends_on_sigterm=settings.atexit_saving)
    PROCESS.saver = saver
    PROCESS.saves_at_exit = settings.atexit_saving
    if settings.periodic_saving:
        assert settings.periodic_saving_interval is not None
        PROCESS.periodic = PeriodicSaving(saver, settings.periodic_saving_interval)
        PROCESS.periodic.start()


def add_last_save(last_save: LastSave) -> None:
    """From here on `last_save` saves before the end of the program.

    Outside of the main thread signals remain as they are, and a warning says so.

    Raises:
        ConfigError: an option in the environment is malformed.
    """
    arm(ends_on_sigterm=True)
    PROCESS.participants[id(last_save)] = Participant(last_save, threading.current_thread())


def remove_last_save(last_save: LastSave) -> None:
    """Takes it back; nothing happens where that was done before."""
    participant = PROCESS.participants.pop(id(last_save), None)
    if participant is None:
        return
    thread = participant.thread
    others = any(other.thread is thread for other in [*PROCESS.participants.values()])
    if not others and PROCESS.boundary_threads.get(thread) is False:
        PROCESS.boundary_threads.pop(thread, None)


def arm(*, ends_on_sigterm: bool) -> None:
    """Installs what is missing of the handlers.

    Raises:
        ConfigError: an option in the environment is malformed.
    """
    options = current_options()
    PROCESS.grace_s = options.grace_s
    if not PROCESS.is_armed:
        PROCESS.is_armed = True
        save_at_exit()
    if can_install_handlers():
        handle_warnings(options.warn_signals)
        if ends_on_sigterm:
            handle_sigterm()
    elif ends_on_sigterm and not handles_sigterm() and not PROCESS.has_told_of_threads:
        PROCESS.has_told_of_threads = True
        logger.warning(
            "nothing is saved on signals, all else works: Python installs handlers in the main thread only; "
            "make the StateManagerGroup, or start a scenario, there"
        )

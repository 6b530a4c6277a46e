"""When states are saved: at the exit, on signals and periodically. Handlers are installed once for each process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sucrose.options import current_options
from sucrose.state.triggers.exit import save_at_exit
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
    elif ends_on_sigterm and not handles_sigterm():
        logger.warning(
            "states are not saved on signals, all else works: Python installs handlers in the main thread only; "
            "make the StateManagerGroup there"
        )

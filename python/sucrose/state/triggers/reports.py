"""Telling a person what went wrong while the program was ending."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

logger = logging.getLogger(__name__)


def report(message: str) -> None:
    """To stderr in any case, and to the program's log if it has one. Never raises.

    In a signal handler the stream may be in the middle of another write, and refuses this one.
    """
    with suppress(Exception):
        if logger.hasHandlers():
            logger.error(message)
    with suppress(Exception):
        sys.stderr.write(f"sucrose: {message}\n")
        sys.stderr.flush()


def tell(message: str) -> None:
    """A warning in the program's log. Never raises."""
    with suppress(Exception):  # the stream of a log may refuse a signal handler
        logger.warning(message)

"""Why states are saved."""

from __future__ import annotations

from enum import Enum


class Occasion(Enum):
    """The kinds of saves; each is numbered by itself, alike on all ranks."""

    CALL = "call"
    """`save` and `async_save`: the program calls them on all ranks, in the same order."""
    BACKGROUND = "background"
    """Periodic ones, and those of warning signals: one rank begins, the others hear of it."""
    END = "end"
    """Before the end of the program."""

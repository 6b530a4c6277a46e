"""Ctrl-C waits for the end of an optimizer's step: in its middle the parameters are of no step at all.

Only where the program leaves Ctrl-C to Python. A second one does not wait.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import final


@final
class Interrupts:
    """Entered for each step, in the main thread; others are let through."""

    def __init__(self) -> None:
        self._is_inside = False
        self._is_due = False

    def watch(self) -> None:
        """Installs the handler, if Python's own is there."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_sigint)

    def __enter__(self) -> None:
        self._is_inside = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_inside = False
        if self._is_due:
            self._is_due = False
            if error is None:
                raise KeyboardInterrupt

    def _on_sigint(self, number: int, frame: FrameType | None) -> None:
        if self._is_inside and not self._is_due:
            self._is_due = True
            return
        self._is_due = False
        signal.default_int_handler(number, frame)

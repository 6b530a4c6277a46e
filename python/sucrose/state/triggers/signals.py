"""What SIGTERM and warning signals do.

SIGTERM: the handler that the program had is called; then everything is saved, and the program ends
with status 143. A program that stops by itself is only told, and forced when the grace is almost over.
A warning: the handler that the program had is called, a save begins, and the program goes on.

Handlers run in the main thread, in the middle of anything. They keep the program's own handlers, which
forked children get back.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from sucrose.state.triggers.deadline import watch_deadline
from sucrose.state.triggers.last_save import TERMINATED, end_process, terminate
from sucrose.state.triggers.process import PROCESS
from sucrose.state.triggers.reports import report
from sucrose.state.triggers.warned import save_soon

logger = logging.getLogger(__name__)


class _Handler:
    """Stands where the program's own handler of a signal was."""

    def __init__(self, number: int, respond: Callable[[_Handler, FrameType | None], None]) -> None:
        self._number = number
        self._respond = respond
        self._previous = signal.getsignal(number)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if PROCESS.is_this_one():
            self._respond(self, frame)
            return
        self.step_back()
        os.kill(os.getpid(), number)

    def call_previous(self, frame: FrameType | None) -> None:
        if callable(self._previous):
            self._previous(self._number, frame)

    def step_back(self) -> None:
        """Puts the program's handler back, unless the program has put another one here."""
        present: object = signal.getsignal(self._number)
        if present is self:
            # None stands for a handler that was not Python's, and cannot be put back.
            signal.signal(self._number, signal.SIG_DFL if self._previous is None else self._previous)


_HANDLERS: dict[int, _Handler] = {}


def handle_sigterm() -> None:
    """Installs the handler, unless SIGTERM is ignored. In the main thread."""
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:
        _install(signal.SIGTERM, _on_sigterm)


def handle_warnings(names: str) -> None:
    """Installs handlers for a comma-separated list of signals. In the main thread."""
    for name in filter(None, names.split(",")):
        _install(signal.Signals[name], _on_warning)


def _install(number: int, respond: Callable[[_Handler, FrameType | None], None]) -> None:
    if number not in _HANDLERS:
        _HANDLERS[number] = _Handler(number, respond)
        signal.signal(number, _HANDLERS[number])


def _on_sigterm(handler: _Handler, frame: FrameType | None) -> None:
    PROCESS.note_sigterm()
    if PROCESS.is_ending:
        PROCESS.exit_status = TERMINATED
        _call_previous_safely(handler, frame)
        if PROCESS.has_ended:
            end_process()
    elif PROCESS.is_terminating:
        pass  # what this one has interrupted ends the program
    elif PROCESS.stops_by_itself and PROCESS.time_is_up:
        terminate()
    elif PROCESS.stops_by_itself and watch_deadline():
        PROCESS.must_stop = True
        PROCESS.exit_status = TERMINATED
        handler.call_previous(frame)
    else:
        terminate(_call_previous_safely(handler, frame))


def _call_previous_safely(handler: _Handler, frame: FrameType | None) -> BaseException | None:
    """What the program's handler has raised."""
    try:
        handler.call_previous(frame)
    except SystemExit as error:  # it wants what happens anyway
        return error
    except BaseException as error:  # noqa: BLE001 - nothing may prevent the save
        report(f"the program's handler of SIGTERM has raised {type(error).__name__}: {error}")
        return error
    return None


def _on_warning(handler: _Handler, frame: FrameType | None) -> None:
    PROCESS.should_stop = True
    PROCESS.warnings += 1
    try:
        handler.call_previous(frame)
    finally:
        save_soon()


def _forget_parent() -> None:
    """A forked child, such as a worker of a DataLoader, has nothing to save and dies of signals as others do."""
    PROCESS.begin_anew()
    while _HANDLERS:
        _, handler = _HANDLERS.popitem()
        with suppress(ValueError):  # forked by C code in a thread that is not the main one
            handler.step_back()


def can_install_handlers() -> bool:
    """Whether this is the main thread: Python allows it nowhere else."""
    return threading.current_thread() is threading.main_thread()


def handles_sigterm() -> bool:
    """Whether the handler was installed."""
    return signal.SIGTERM in _HANDLERS


os.register_at_fork(after_in_child=_forget_parent)

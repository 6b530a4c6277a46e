"""Functions that a thread has run in the main thread."""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING

import pytest

from sucrose.state.main_thread_call import call_in_main_thread

if TYPE_CHECKING:
    from collections.abc import Callable


def in_another_thread(function: Callable[[], object]) -> None:
    """Runs `function` while the main thread works."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        sum(range(100))
    if errors:
        raise errors[0]


def test_the_function_runs_between_what_the_main_thread_does() -> None:
    found: list[threading.Thread] = []
    in_another_thread(lambda: found.append(call_in_main_thread(threading.current_thread, timeout_s=60)))
    assert found == [threading.main_thread()]
    assert call_in_main_thread(threading.current_thread, timeout_s=60) is threading.main_thread()


def test_it_runs_in_the_thread_itself_where_the_main_thread_does_not_come_to_it_and_then_only_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    postponed: list[Callable[[object], int]] = []
    monkeypatch.setattr(ctypes.pythonapi, "Py_AddPendingCall", lambda call, _: postponed.append(call) or 0)
    found: list[threading.Thread] = []

    def note() -> None:
        found.append(threading.current_thread())

    in_another_thread(lambda: call_in_main_thread(note, timeout_s=0.01))
    postponed[0](None)  # the main thread comes to it after all
    assert len(found) == 1
    assert found[0] is not threading.main_thread()


def test_it_runs_in_the_thread_itself_where_too_many_wait_for_the_main_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.pythonapi, "Py_AddPendingCall", lambda call, _: -1)
    found: list[threading.Thread] = []
    in_another_thread(lambda: found.append(call_in_main_thread(threading.current_thread, timeout_s=60)))
    assert found[0] is not threading.main_thread()


def test_an_error_of_the_function_is_raised_in_the_thread() -> None:
    def fail() -> None:
        raise KeyError("of the function")

    with pytest.raises(KeyError, match="of the function"):
        in_another_thread(lambda: call_in_main_thread(fail, timeout_s=60))

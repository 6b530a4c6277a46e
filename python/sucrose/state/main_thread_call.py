"""Running a function in the main thread, in between two instructions of whatever runs there."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_PendingCall = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)

_pending: dict[int, Any] = {}
"""What Python will call some day, by identity: it does not keep it alive itself."""


def call_in_main_thread(function: Callable[[], T], timeout_s: float) -> T:
    """What `function` returns or raises, there, or here where the main thread does not come to it in time.

    It comes to it like to a signal handler: not while it waits for a lock or for a call outside of Python.
    """
    if threading.current_thread() is threading.main_thread():
        return function()
    claim = threading.Lock()  # whoever gets it calls the function
    outcome: list[tuple[T | None, BaseException | None]] = []
    has_ended = threading.Event()

    def call(_: object) -> int:
        if claim.acquire(blocking=False):
            try:
                outcome.append((function(), None))
            except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits
                outcome.append((None, error))
            has_ended.set()
        _pending.pop(identity, None)
        return 0

    callback = _PendingCall(call)
    identity = id(callback)
    _pending[identity] = callback
    if ctypes.pythonapi.Py_AddPendingCall(callback, None) != 0:
        _pending.pop(identity, None)
        return function()
    if not has_ended.wait(timeout_s) and claim.acquire(blocking=False):
        return function()
    has_ended.wait()
    value, error = outcome[0]
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # there is no error, so there is a value

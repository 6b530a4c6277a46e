"""Several requests at a time, for a caller that waits for all of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sucrose.snapshot.thread_start import start_thread
from sucrose.storage.objects.giving_up import given_up_on

T = TypeVar("T")
Result = TypeVar("Result")

_LOOK_AGAIN_S = 0.1


def side_by_side(operation: Callable[[T], Result], of: Iterable[T], threads: int) -> list[Result]:
    """What the operation returns, in order. No thread is left when this returns or raises.

    The calling thread works, too, and alone where no other can be started. There is no executor in here: those refuse
    all work while the program ends, which is when states are saved, and have locks that a signal handler may wait for
    in vain.

    Args:
        operation: makes requests to object stores; they are given up where another one has failed, and on Ctrl-C.
        of: its arguments.
        threads: operations at a time.

    Raises:
        Exception: the first one of an operation.
    """
    arguments = list(of)
    results: list[Any] = [None] * len(arguments)
    waiting = deque(range(len(arguments)))
    errors: list[BaseException] = []
    given_up = threading.Event()
    ended: list[None] = []
    woken: SimpleQueue[None] = SimpleQueue()

    def work() -> None:
        while not errors:
            try:
                at = waiting.popleft()
            except IndexError:
                return
            try:
                with given_up_on(given_up):
                    results[at] = operation(arguments[at])
            except BaseException as error:  # noqa: BLE001 - raised by the calling thread
                errors.append(error)
                given_up.set()

    def work_in_thread() -> None:
        try:
            work()
        finally:
            ended.append(None)
            woken.put(None)

    def wait_for_threads() -> None:
        while len(ended) < started:
            with suppress(Empty):
                woken.get(timeout=_LOOK_AGAIN_S)

    started = 0
    helpers = min(threads, len(arguments)) - 1
    try:
        while started < helpers and start_thread(work_in_thread, "sucrose-request", daemon=True):
            started += 1
        work()
        wait_for_threads()
    except BaseException as error:  # Ctrl-C, or a signal handler
        errors.append(error)
        given_up.set()
        wait_for_threads()
        raise
    if errors:
        raise errors[0]
    return results

"""Name look-ups of a client's event loop, until the very end of the program.

asyncio looks up host names in an executor, and those of `concurrent.futures` refuse all work from the moment on at
which the main thread ends: no connection could be made any more where programs save what is to outlive them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar, final

T = TypeVar("T")


@final
class LastingExecutor(ThreadPoolExecutor):  # asyncio takes no other kind
    """Runs each call in a thread of its own, which keeps no process alive. Thread-safe."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Begins the call, or makes it here where no thread can be started."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - for whoever waits
                future.set_exception(error)

        try:
            threading.Thread(target=run, name="sucrose-lookup", daemon=True).start()
        except RuntimeError:  # too many threads, or the interpreter does not start any more
            run()
        return future

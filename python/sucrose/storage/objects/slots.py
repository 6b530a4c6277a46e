"""How many requests are under way at a time."""

from __future__ import annotations

from queue import SimpleQueue
from types import TracebackType
from typing import final


@final
class Slots:
    """As a context manager one of so many, for which the block waits. Any thread may enter, and any signal handler.

    Handlers run between any two lines of the main thread. A semaphore of `threading` has a lock inside, which one that
    makes requests itself would wait for in vain; here taking and giving back are single calls.
    """

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def __enter__(self) -> None:
        self._free.get()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._free.put(None)

"""How many requests are under way at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from queue import SimpleQueue
from typing import TypeVar, final

T = TypeVar("T")
_NEVER = object()


@final
class Slots:
    """So many operations at once; others wait. Any thread may run one, and any signal handler.

    Handlers run between any two lines of the main thread. A semaphore of `threading` has a lock inside, which one that
    makes requests itself would wait for in vain; here taking and giving back are single calls.
    """

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count):
            self._free.put(None)

    def run(self, operation: Callable[[], T]) -> T:
        """The result of the operation, once it is its turn."""
        taken: list[None] = []
        try:
            # Taken and noted by one call: Ctrl-C between the two would cost a slot for good.
            taken.extend(islice(iter(self._free.get, _NEVER), 1))
            return operation()
        finally:
            if taken:
                self._free.put(None)

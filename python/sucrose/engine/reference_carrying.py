"""What relayed operations in plain Python have in common: how much is out, and how they end."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from sucrose.engine.base import CHUNK_NBYTES

_Result = TypeVar("_Result")

DONE = 0
LOST = -1
"""It was garbage-collected, and nobody had said what came of it."""

_DEFAULT_OUT = 16
"""What may be out at once: as much as the native engine's ring gives by default."""


class Carried:
    """A block or a request that is out, until it is given back."""

    def __init__(self, offset: int, data: memoryview, give_back: Callable[[Carried, int], None]) -> None:
        self.offset = offset
        self.data = data
        self.nbytes = len(data)
        self._give_back: Callable[[Carried, int], None] | None = give_back

    def release(self) -> None:
        """Of a block: says that its bytes are sent."""
        self._settle(DONE)

    def complete(self) -> None:
        """Of a request: says that its bytes are there."""
        self._settle(DONE)

    def fail(self, error_number: int) -> None:
        """Of a request: ends the read with an OSError of this errno."""
        self._settle(error_number)

    def _settle(self, outcome: int) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self, outcome)

    def __del__(self) -> None:
        self._settle(LOST)


class RelayedOperation(Generic[_Result]):
    """A relayed operation under way. Thread-safe."""

    def __init__(self, name: str, nbytes: int, max_inflight_nbytes: int) -> None:
        self._name = name
        self._nbytes = nbytes
        self._max_out = max(1, max_inflight_nbytes // CHUNK_NBYTES) if max_inflight_nbytes else _DEFAULT_OUT
        # Re-entrant: what is out may be garbage-collected in the middle of anything.
        self._changed = threading.Condition(threading.RLock())
        self._out = 0
        self._done_nbytes = 0
        self._error: OSError | None = None
        self._result: _Result | None = None

    def progress(self) -> tuple[int, int]:
        """Bytes done and bytes in all."""
        return self._done_nbytes, self._nbytes

    def cancel(self) -> None:
        """Ends the operation with InterruptedError, unless it has ended."""
        self._end(InterruptedError("cancelled"))

    def fail(self, error_number: int) -> None:
        """Ends the operation with an OSError of this errno, unless it has ended."""
        self._end(OSError(error_number, os.strerror(error_number), self._name))

    def wait(self, timeout_s: float | None = None) -> _Result:
        """Blocks until all that was handed out has been given back; raises the operation's error."""
        with self._changed:
            self._wait_until(self._is_complete, timeout_s)
            if self._result is None:
                self._result = self._conclude()
            return self._result

    def _handed_out_all(self) -> bool:
        raise NotImplementedError

    def _hand_out(self) -> Carried:
        """The next one; called with the lock held."""
        raise NotImplementedError

    def _conclude(self) -> _Result:
        raise NotImplementedError

    def _next(self, timeout_s: float | None) -> Carried | None:
        with self._changed:
            self._wait_until(lambda: self._handed_out_all() or self._out < self._max_out, timeout_s)
            if self._handed_out_all():
                return None
            try:
                carried = self._hand_out()
            except BaseException:  # Ctrl-C: what it was about to hand out is lost
                self.cancel()
                raise
            self._out += 1
            self._changed.notify_all()
            return carried

    def _given_back(self, outcome: int, nbytes: int) -> None:
        with self._changed:
            self._out -= 1
            if outcome == LOST:
                self.cancel()
            elif outcome != DONE:
                self.fail(outcome)
            else:
                self._done_nbytes += nbytes
            self._changed.notify_all()

    def _is_complete(self) -> bool:
        return self._handed_out_all() and self._out == 0

    def _wait_until(self, reached: Callable[[], bool], timeout_s: float | None) -> None:
        if not self._changed.wait_for(lambda: self._error is not None or reached(), timeout_s):
            raise TimeoutError(f"{self._done_nbytes} of {self._nbytes} bytes were done after {timeout_s} s")
        if self._error is not None:
            raise self._error

    def _end(self, error: OSError) -> None:
        with self._changed:
            if self._error is None and self._result is None and not self._is_complete():
                self._error = error
            self._changed.notify_all()

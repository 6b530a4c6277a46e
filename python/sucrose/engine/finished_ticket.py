"""The ticket of an operation that ran inside the call that submitted it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTicket(Generic[_Result]):
    """An operation that ended before its ticket was handed out: with a result or an error."""

    nbytes: int
    result: _Result | None = None
    error: OSError | None = None
    staging_mode: str = "none"

    def progress(self) -> tuple[int, int]:
        """Bytes done and bytes in all."""
        return (0 if self.error is not None else self.nbytes, self.nbytes)

    def cancel(self) -> None:
        """Comes too late: nothing is left to stop."""

    def staged(self) -> bool:
        """Always, once the error that there may be is raised."""
        self.wait()
        return True

    def wait_safe(self, timeout_s: float | None = None) -> None:
        """Raises the operation's error."""
        self.wait(timeout_s)

    def wait_staged(self, timeout_s: float | None = None) -> None:
        """Raises the operation's error."""
        self.wait(timeout_s)

    def staging(self) -> str:
        """``"blocking"`` where staging was asked for: the file was written instead."""
        return self.staging_mode

    def wait(self, timeout_s: float | None = None) -> _Result:  # noqa: ARG002 - it has ended
        """Returns the result or raises the operation's error."""
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

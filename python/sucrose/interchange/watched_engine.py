"""An engine that says how far its reads have come, for whoever shows that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sucrose.snapshot.progress import ends_within

if TYPE_CHECKING:
    from sucrose.engine import Engine, ReadResult, ReadTicket

Advance = Callable[[int], object]
"""Is told how many bytes more have been read."""

_REFRESH_S = 0.1


class WatchedEngine:
    """Does what the engine does; `verify` and `verify_relayed` report while they are waited for."""

    def __init__(self, engine: Engine, advance: Advance) -> None:
        self._engine = engine
        self._advance = advance

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def verify(self, *arguments: Any, **options: Any) -> _WatchedTicket:
        """As the engine's."""
        return _WatchedTicket(self._engine.verify(*arguments, **options), self._advance)

    def verify_relayed(self, *arguments: Any, **options: Any) -> _WatchedTicket:
        """As the engine's; whoever carries the bytes waits with its ticket."""
        return _WatchedTicket(self._engine.verify_relayed(*arguments, **options), self._advance)


class _WatchedTicket:
    def __init__(self, ticket: ReadTicket, advance: Advance) -> None:
        self._ticket = ticket
        self._advance = advance
        self._told = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ticket, name)

    def wait(self, timeout_s: float | None = None) -> ReadResult:
        if timeout_s is None:
            while not ends_within(self._ticket, _REFRESH_S):
                self._tell()
        result = self._ticket.wait(timeout_s)
        self._tell()
        return result

    def _tell(self) -> None:
        done, _ = self._ticket.progress()
        self._advance(done - self._told)
        self._told = done

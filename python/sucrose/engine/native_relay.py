"""Relayed operations of the C++ core: see `relay` for what they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sucrose.engine.base import Extents
from sucrose.engine.native_tickets import NativeReadTicket, NativeTicket, NativeWriteTicket
from sucrose.engine.relay import stop_at_exit

_DONE = 0


class _Load:
    """Memory of the core's, until it is settled and the last view of it is gone: the core's object keeps count."""

    __slots__ = ("_load", "data", "nbytes", "offset")

    def __init__(self, load: Any, data: memoryview) -> None:
        self._load = load
        self.data = data
        self.nbytes = len(data)
        self.offset: int = load.offset

    def _settle(self, error_number: int) -> None:
        load, self._load = self._load, None
        if load is not None:
            load.settle(error_number)
            with suppress(BufferError):  # somebody has a view of it still, an array for example
                self.data.release()


class NativeBlock(_Load):
    """`engine.relay.Block` of the core."""

    __slots__ = ()

    def release(self) -> None:
        self._settle(_DONE)


class NativeRequest(_Load):
    """`engine.relay.Request` of the core."""

    __slots__ = ()

    def complete(self) -> None:
        self._settle(_DONE)

    def fail(self, error_number: int) -> None:
        self._settle(error_number)


class _RelayedTicket(NativeTicket):
    def __init__(self, submit: Callable[[bytes], Any], name: str, memory: Extents) -> None:
        super().__init__(submit, name, memory)
        stop_at_exit(self)

    def fail(self, error_number: int) -> None:
        self._tickets[0].fail(error_number)

    def stop(self) -> None:
        detached = self._guard.detach()  # calling it does nothing when the program is ending
        if detached is not None:
            _, stop, arguments, _ = detached
            stop(*arguments)


class NativeRelayedWriteTicket(_RelayedTicket, NativeWriteTicket):
    """`engine.relay.RelayedWriteTicket` of the core."""

    def next_block(self, timeout_s: float | None = None) -> NativeBlock | None:
        load = self._tickets[0].next_load(timeout_s)
        return None if load is None else NativeBlock(load, memoryview(load).toreadonly())

    def wait_staged(self, timeout_s: float | None = None) -> None:
        super().wait_staged(timeout_s)
        # Without the ticket nobody would ever carry the rest, which therefore must not go on.
        self._guard = self._stopped_when_dropped(None)


class NativeRelayedReadTicket(_RelayedTicket, NativeReadTicket):
    """`engine.relay.RelayedReadTicket` of the core."""

    def next_request(self, timeout_s: float | None = None) -> NativeRequest | None:
        load = self._tickets[0].next_load(timeout_s)
        return None if load is None else NativeRequest(load, memoryview(load))

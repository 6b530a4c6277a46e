"""The engine over the C++ core."""

from __future__ import annotations

import logging
import os
import weakref
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sucrose import _core
from sucrose.engine.base import (
    CHUNK_NBYTES,
    CorruptChunk,
    Encoding,
    Extents,
    ReadResult,
    Staging,
    StoredChunks,
    Strides,
    WriteResult,
)
from sucrose.options import Options

logger = logging.getLogger(__name__)

if _core.CHUNK_NBYTES != CHUNK_NBYTES:
    raise ImportError("sucrose._core belongs to another version of sucrose: reinstall torch-sucrose")


def _layouts(strided: list[Strides]) -> list[tuple[int, list[int], list[int], int]]:
    return [(s.extent, list(s.shape), list(s.strides), s.itemsize) for s in strided]


class _Ticket:
    """Keeps the memory of an operation alive for as long as the core may touch it."""

    def __init__(self, submit: Callable[[bytes], Any], path: str, memory: Extents) -> None:
        self._tickets: list[Any] = []
        # Not __del__: that would run after each success, too, and Ctrl-C in it is lost.
        self._guard = weakref.finalize(self, _stop, self._tickets, memory)
        self._guard.atexit = False
        # Not `self._ticket = submit(…)`: Ctrl-C is raised between a return and an assignment, too,
        # and would lose the ticket of a job that goes on. In here no Python code runs in between.
        self._tickets.extend(map(submit, (os.fsencode(path),)))

    def progress(self) -> tuple[int, int]:
        done, total = self._tickets[0].progress()
        return done, total

    def cancel(self) -> None:
        self._tickets[0].cancel()

    def _wait(self, timeout_s: float | None) -> Any:
        outcome = self._tickets[0].wait(timeout_s)
        if outcome is None:
            done, total = self.progress()
            raise TimeoutError(f"{done} of {total} bytes were done after {timeout_s} s")
        self._guard.detach()  # on an error it stays with the ticket: Ctrl-C may come before the wait began
        return outcome


def _stop(tickets: list[Any], memory: Extents) -> None:  # noqa: ARG001 - is held until this is over
    """Of a ticket that was dropped while under way, perhaps."""
    for ticket in tickets:
        ticket.cancel()
        while not _is_over(ticket):
            pass


def _is_over(ticket: Any) -> bool:
    try:
        ticket.wait()
    except KeyboardInterrupt:
        return False  # that it was raised does not mean that the wait came to an end
    except Exception:  # noqa: BLE001, S110 - nobody is left who could be told
        pass
    return True


def _chunk_table(stored: StoredChunks | None) -> tuple[array[int], bytes] | None:
    return None if stored is None else (stored.sizes, stored.groups)


class _WriteTicket(_Ticket):
    def wait(self, timeout_s: float | None = None) -> WriteResult:
        nbytes, digests = self._wait(timeout_s)
        stored = self._tickets[0].stored()
        return WriteResult(
            nbytes=nbytes,
            digests=digests,
            stored=None if stored is None else StoredChunks(sizes=array("Q", stored[0]), groups=stored[1]),
        )

    def wait_safe(self, timeout_s: float | None = None) -> None:
        if not self._tickets[0].wait_safe(timeout_s):
            raise TimeoutError(f"the sources were still being read after {timeout_s} s")

    def wait_staged(self, timeout_s: float | None = None) -> None:
        if not self._tickets[0].wait_staged(timeout_s):
            raise TimeoutError(f"the sources were still needed after {timeout_s} s")
        self._guard.detach()

    def staged(self) -> bool:
        try:
            self.wait_staged(0.0)
        except TimeoutError as error:
            if error.errno is not None:  # the storage's own time-out, not ours
                raise
            return False
        return True

    def staging(self) -> str:
        return str(self._tickets[0].staging())


class _ReadTicket(_Ticket):
    def wait(self, timeout_s: float | None = None) -> ReadResult:
        nbytes, corrupt, crc32s = self._wait(timeout_s)
        return ReadResult(
            nbytes=nbytes,
            corrupt=[CorruptChunk(index=i, expected=e, found=f) for i, e, f in corrupt],
            crc32s=crc32s,
        )


class NativeEngine:
    """`engine.base.Engine` in C++: parallel, direct I/O, io_uring where it works."""

    name = "native"

    def __init__(self, options: Options) -> None:
        self._engine = _core.Engine(
            io_backend=options.io_backend,
            read_mode=options.read_mode,
            slot_count=options.ring_slots,
            worker_count=options.workers,
            io_depth=options.io_depth,
            direct_min_nbytes=options.direct_min_nbytes,
            cuda_driver=options.cuda_driver,
            trace=options.trace,
        )
        self._warned_of: set[str] = set()

    def write(
        self,
        path: str,
        sources: Extents,
        *,
        digest: bool = True,
        durable: bool = True,
        staging: Staging | None = None,
        encoding: Encoding | None = None,
        digest_kind: str = "xxh3-128",
    ) -> _WriteTicket:
        submit = partial(
            self._engine.write,
            addresses=sources.addresses,
            nbytes=sources.nbytes,
            devices=sources.devices,
            strided=_layouts(sources.strided),
            streams=list(sources.streams.items()),
            digest=digest,
            durable=durable,
            staging="none" if staging is None else staging.mode,
            staging_nbytes=0 if staging is None else staging.budget_nbytes,
            digest_kind=digest_kind,
            encoding=None if encoding is None else (encoding.level, encoding.groups, encoding.adaptive),
        )
        return _WriteTicket(submit, path, sources)

    def read(
        self,
        path: str,
        offsets: array[int],
        destinations: Extents,
        *,
        file_nbytes: int,
        digests: bytes = b"",
        fresh: bool = False,
        max_inflight_nbytes: int = 0,
        crc32: bool = False,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> _ReadTicket:
        submit = partial(
            self._engine.read,
            offsets=offsets,
            addresses=destinations.addresses,
            nbytes=destinations.nbytes,
            devices=destinations.devices,
            strided=_layouts(destinations.strided),
            streams=list(destinations.streams.items()),
            file_nbytes=file_nbytes,
            digests=digests,
            crc32=crc32,
            whole_file=False,
            fresh=fresh,
            max_inflight_nbytes=max_inflight_nbytes,
            digest_kind=digest_kind,
            stored=_chunk_table(stored),
        )
        return _ReadTicket(submit, path, destinations)

    def verify(
        self,
        path: str,
        *,
        file_nbytes: int,
        digests: bytes,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> _ReadTicket:
        nothing = Extents()
        submit = partial(
            self._engine.read,
            offsets=array("Q"),
            addresses=nothing.addresses,
            nbytes=nothing.nbytes,
            devices=nothing.devices,
            strided=[],
            streams=[],
            file_nbytes=file_nbytes,
            digests=digests,
            crc32=False,
            whole_file=True,
            fresh=False,
            max_inflight_nbytes=0,
            digest_kind=digest_kind,
            stored=_chunk_table(stored),
        )
        return _ReadTicket(submit, path, nothing)

    def digest(self, data: bytes | bytearray | memoryview, digest_kind: str = "xxh3-128") -> bytes:
        return _core.digest(data, digest_kind)

    def crc32(self, sources: Extents) -> list[int]:
        return self._engine.crc32(sources.addresses, sources.nbytes)

    def fingerprint(self, sources: Extents, piece_nbytes: array[int]) -> bytes:
        return self._engine.fingerprint(
            sources.addresses,
            sources.nbytes,
            sources.devices,
            _layouts(sources.strided),
            list(sources.streams.items()),
            piece_nbytes=piece_nbytes,
        )

    def sync(self, paths: Sequence[str]) -> None:
        self._engine.sync([os.fsencode(path) for path in paths])

    def reaches_device(self, ordinal: int) -> bool:
        return self._engine.reaches_device(ordinal)

    def kept_staging_nbytes(self) -> int:
        return self._engine.kept_staging_nbytes()

    def trace(self, name: str, begin_s: float, end_s: float) -> None:
        self._engine.trace(name, begin_s, end_s)

    def stats(self) -> dict[str, Any]:
        stats = {"engine": self.name, **self._engine.stats()}
        for what, why in stats["cuda_fallbacks"].items():
            if what not in self._warned_of:
                self._warned_of.add(what)
                logger.warning("saving and restoring go without %s, and are slower: %s", what, why)
        return stats

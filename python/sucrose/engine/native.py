"""The engine over the C++ core."""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sucrose import _core
from sucrose.engine.base import (
    CHUNK_NBYTES,
    Encoding,
    Extents,
    Staging,
    StoredChunks,
    Strides,
)
from sucrose.engine.native_relay import NativeRelayedReadTicket, NativeRelayedWriteTicket
from sucrose.engine.native_tickets import NativeReadTicket, NativeWriteTicket
from sucrose.options import Options

logger = logging.getLogger(__name__)

if _core.CHUNK_NBYTES != CHUNK_NBYTES:
    raise ImportError("sucrose._core belongs to another version of sucrose: reinstall torch-sucrose")


def _layouts(strided: list[Strides]) -> list[tuple[int, list[int], list[int], int]]:
    return [(s.extent, list(s.shape), list(s.strides), s.itemsize) for s in strided]


def _chunk_table(stored: StoredChunks | None) -> tuple[array[int], bytes] | None:
    return None if stored is None else (stored.sizes, stored.groups)


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
    ) -> NativeWriteTicket:
        submit = self._write_of(
            sources, digest=digest, durable=durable, staging=staging, encoding=encoding, digest_kind=digest_kind
        )
        return NativeWriteTicket(submit, path, sources)

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
    ) -> NativeReadTicket:
        submit = self._read_of(
            offsets,
            destinations,
            file_nbytes=file_nbytes,
            digests=digests,
            crc32=crc32,
            fresh=fresh,
            max_inflight_nbytes=max_inflight_nbytes,
            stored=stored,
            digest_kind=digest_kind,
        )
        return NativeReadTicket(submit, path, destinations)

    def verify(
        self,
        path: str,
        *,
        file_nbytes: int,
        digests: bytes,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> NativeReadTicket:
        nothing = Extents()
        submit = self._read_of(
            array("Q"),
            nothing,
            file_nbytes=file_nbytes,
            digests=digests,
            whole_file=True,
            stored=stored,
            digest_kind=digest_kind,
        )
        return NativeReadTicket(submit, path, nothing)

    def write_relayed(
        self,
        name: str,
        sources: Extents,
        *,
        digest: bool = True,
        staging: Staging | None = None,
        encoding: Encoding | None = None,
        digest_kind: str = "xxh3-128",
        max_inflight_nbytes: int = 0,
    ) -> NativeRelayedWriteTicket:
        submit = self._write_of(
            sources,
            digest=digest,
            durable=False,
            staging=staging,
            encoding=encoding,
            digest_kind=digest_kind,
            relayed=True,
            max_inflight_nbytes=max_inflight_nbytes,
        )
        return NativeRelayedWriteTicket(submit, name, sources)

    def read_relayed(
        self,
        name: str,
        offsets: array[int],
        destinations: Extents,
        *,
        file_nbytes: int,
        digests: bytes = b"",
        crc32: bool = False,
        fresh: bool = False,
        max_inflight_nbytes: int = 0,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> NativeRelayedReadTicket:
        submit = self._read_of(
            offsets,
            destinations,
            file_nbytes=file_nbytes,
            digests=digests,
            crc32=crc32,
            fresh=fresh,
            max_inflight_nbytes=max_inflight_nbytes,
            stored=stored,
            digest_kind=digest_kind,
            relayed=True,
        )
        return NativeRelayedReadTicket(submit, name, destinations)

    def verify_relayed(
        self,
        name: str,
        *,
        file_nbytes: int,
        digests: bytes,
        max_inflight_nbytes: int = 0,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> NativeRelayedReadTicket:
        nothing = Extents()
        submit = self._read_of(
            array("Q"),
            nothing,
            file_nbytes=file_nbytes,
            digests=digests,
            whole_file=True,
            max_inflight_nbytes=max_inflight_nbytes,
            stored=stored,
            digest_kind=digest_kind,
            relayed=True,
        )
        return NativeRelayedReadTicket(submit, name, nothing)

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

    def _write_of(
        self,
        sources: Extents,
        *,
        staging: Staging | None,
        encoding: Encoding | None,
        **options: Any,
    ) -> Callable[[bytes], Any]:
        """What submits the write, once it is told the path."""
        return partial(
            self._engine.write,
            addresses=sources.addresses,
            nbytes=sources.nbytes,
            devices=sources.devices,
            strided=_layouts(sources.strided),
            streams=list(sources.streams.items()),
            staging="none" if staging is None else staging.mode,
            staging_nbytes=0 if staging is None else staging.budget_nbytes,
            encoding=None if encoding is None else (encoding.level, encoding.groups, encoding.adaptive),
            **options,
        )

    def _read_of(
        self,
        offsets: array[int],
        destinations: Extents,
        *,
        stored: StoredChunks | None,
        crc32: bool = False,
        whole_file: bool = False,
        fresh: bool = False,
        max_inflight_nbytes: int = 0,
        **options: Any,
    ) -> Callable[[bytes], Any]:
        """What submits the read, once it is told the path."""
        return partial(
            self._engine.read,
            offsets=offsets,
            addresses=destinations.addresses,
            nbytes=destinations.nbytes,
            devices=destinations.devices,
            strided=_layouts(destinations.strided),
            streams=list(destinations.streams.items()),
            crc32=crc32,
            whole_file=whole_file,
            fresh=fresh,
            max_inflight_nbytes=max_inflight_nbytes,
            stored=_chunk_table(stored),
            **options,
        )

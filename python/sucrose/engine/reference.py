"""The engine in pure Python: no native core, the same bytes and the same errors.

It reads and writes any snapshot where the native core cannot run, and every native result is
tested against it. Operations run inside the call that submits them, one chunk of memory at a time.
"""

from __future__ import annotations

import os
import threading
from array import array
from typing import TYPE_CHECKING, Any

from sucrose.engine.base import (
    CHUNK_NBYTES,
    DIGEST_NBYTES,
    Encoding,
    Extents,
    ReadResult,
    Staging,
    StoredChunks,
    WriteResult,
)
from sucrose.engine.blocks import crc32s_of
from sucrose.engine.digests import ExpectedDigests, digest_function
from sucrose.engine.fingerprints import fingerprints_of
from sucrose.engine.finished_ticket import FinishedTicket
from sucrose.engine.frames import check_encoding, check_stored
from sucrose.engine.reference_files import fsync, read_file, verify_file, write_file
from sucrose.engine.reference_relay import ReferenceRelayedRead, ReferenceRelayedWrite

if TYPE_CHECKING:
    from collections.abc import Sequence


class ReferenceEngine:
    """Implements `sucrose.engine.base.Engine`. Thread-safe: calls share only the totals."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may save in the middle of a save
        self._totals = {"files_written": 0, "nbytes_written": 0, "nbytes_read": 0}

    @property
    def name(self) -> str:
        """Always ``"reference"``."""
        return "reference"

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
    ) -> FinishedTicket[WriteResult]:
        """Creates `path` from `sources`; see `Engine.write`."""
        _check_host_memory(sources)
        digest_of = digest_function(digest_kind)
        nbytes = sum(sources.nbytes)
        if encoding is not None:
            check_encoding(encoding, nbytes)
        mode = "none" if staging is None else "blocking"
        try:
            digests, stored = write_file(
                path, sources, digest_of=digest_of if digest else None, durable=durable, encoding=encoding
            )
        except OSError as error:
            return FinishedTicket(nbytes=nbytes, error=error, staging_mode=mode)
        self._count(files_written=1, nbytes_written=nbytes)
        result = WriteResult(nbytes=nbytes, digests=digests, stored=stored)
        return FinishedTicket(nbytes=nbytes, result=result, staging_mode=mode)

    def read(
        self,
        path: str,
        offsets: array[int],
        destinations: Extents,
        *,
        file_nbytes: int,
        digests: bytes = b"",
        crc32: bool = False,
        fresh: bool = False,  # noqa: ARG002 - makes no difference here
        max_inflight_nbytes: int = 0,  # noqa: ARG002 - one chunk is all it ever takes
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> FinishedTicket[ReadResult]:
        """Fills `destinations` from `path`; see `Engine.read`."""
        _check_host_memory(destinations)
        _check_read(offsets, destinations, file_nbytes, digests)
        expected = ExpectedDigests(digests, digest_function(digest_kind))
        if stored is not None:
            check_stored(stored, file_nbytes)
        nbytes = sum(destinations.nbytes)
        try:
            corrupt = read_file(path, offsets, destinations, file_nbytes, expected, stored)
        except OSError as error:
            return FinishedTicket(nbytes=nbytes, error=error)
        self._count(nbytes_read=nbytes)
        crc32s = self.crc32(destinations) if crc32 else ()
        return FinishedTicket(nbytes=nbytes, result=ReadResult(nbytes=nbytes, corrupt=corrupt, crc32s=crc32s))

    def verify(
        self,
        path: str,
        *,
        file_nbytes: int,
        digests: bytes,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> FinishedTicket[ReadResult]:
        """Checks every chunk of `path`; see `Engine.verify`."""
        _check_digests(file_nbytes, digests)
        expected = ExpectedDigests(digests, digest_function(digest_kind))
        if stored is not None:
            check_stored(stored, file_nbytes)
        try:
            corrupt = verify_file(path, file_nbytes, expected, stored, len(digests) // DIGEST_NBYTES)
        except OSError as error:
            return FinishedTicket(nbytes=file_nbytes, error=error)
        self._count(nbytes_read=file_nbytes)
        result = ReadResult(nbytes=file_nbytes, corrupt=corrupt)
        return FinishedTicket(nbytes=file_nbytes, result=result)

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
    ) -> ReferenceRelayedWrite:
        """Hands out the bytes of `sources`; see `Engine.write_relayed`."""
        _check_host_memory(sources)
        digest_of = digest_function(digest_kind)
        if encoding is not None:
            check_encoding(encoding, sum(sources.nbytes))
        return ReferenceRelayedWrite(
            name,
            sources,
            digest_of=digest_of if digest else None,
            staging=staging,
            encoding=encoding,
            max_inflight_nbytes=max_inflight_nbytes,
        )

    def read_relayed(
        self,
        name: str,
        offsets: array[int],
        destinations: Extents,
        *,
        file_nbytes: int,
        digests: bytes = b"",
        crc32: bool = False,
        fresh: bool = False,  # noqa: ARG002 - makes no difference here
        max_inflight_nbytes: int = 0,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> ReferenceRelayedRead:
        """Fills `destinations` from what the caller brings; see `Engine.read_relayed`."""
        _check_host_memory(destinations)
        _check_read(offsets, destinations, file_nbytes, digests)
        if stored is not None:
            check_stored(stored, file_nbytes)
        return ReferenceRelayedRead(
            name,
            offsets,
            destinations,
            file_nbytes=file_nbytes,
            expected=ExpectedDigests(digests, digest_function(digest_kind)),
            crc32=crc32,
            whole_file=False,
            stored=stored,
            max_inflight_nbytes=max_inflight_nbytes,
        )

    def verify_relayed(
        self,
        name: str,
        *,
        file_nbytes: int,
        digests: bytes,
        max_inflight_nbytes: int = 0,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> ReferenceRelayedRead:
        """Checks every chunk that the caller brings; see `Engine.verify_relayed`."""
        _check_digests(file_nbytes, digests)
        if stored is not None:
            check_stored(stored, file_nbytes)
        return ReferenceRelayedRead(
            name,
            array("Q"),
            Extents(),
            file_nbytes=file_nbytes,
            expected=ExpectedDigests(digests, digest_function(digest_kind)),
            crc32=False,
            whole_file=True,
            stored=stored,
            max_inflight_nbytes=max_inflight_nbytes,
        )

    def digest(self, data: bytes | bytearray | memoryview, digest_kind: str = "xxh3-128") -> bytes:
        """That of `data` as of one chunk."""
        return digest_function(digest_kind)(data)

    def crc32(self, sources: Extents) -> list[int]:
        """CRC-32 (as zlib's) of each extent."""
        return crc32s_of(sources)

    def fingerprint(self, sources: Extents, piece_nbytes: array[int]) -> bytes:
        """128 bits for each piece; see `Engine.fingerprint`."""
        _check_host_memory(sources)
        return fingerprints_of(sources, piece_nbytes)

    def reaches_device(self, ordinal: int) -> bool:  # noqa: ARG002 - it knows of none
        """Never: tensors of devices come here as copies on the host."""
        return False

    def kept_staging_nbytes(self) -> int:
        """Nothing."""
        return 0

    def trace(self, name: str, begin_s: float, end_s: float) -> None:
        """Keeps no trace."""

    def sync(self, paths: Sequence[str]) -> None:
        """Calls fsync on files and directories, one after another; the first failure is raised."""
        for path in paths:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fsync(fd, path)
            finally:
                os.close(fd)

    def stats(self) -> dict[str, Any]:
        """Totals since the start."""
        with self._lock:
            return {"engine": self.name, "backend": "python", "fallbacks": {}, **self._totals}

    def _count(self, **amounts: int) -> None:
        with self._lock:
            for key, amount in amounts.items():
                self._totals[key] += amount


def _check_host_memory(extents: Extents) -> None:
    if any(device >= 0 for device in extents.devices):
        raise ValueError("the reference engine reaches host memory only, not that of CUDA devices")


def _check_read(offsets: array[int], destinations: Extents, file_nbytes: int, digests: bytes) -> None:
    if len(offsets) != len(destinations.nbytes):
        raise ValueError(f"{len(offsets)} offsets for {len(destinations.nbytes)} destinations")
    end = 0
    for offset, nbytes in zip(offsets, destinations.nbytes, strict=True):
        if offset < end or offset + nbytes > file_nbytes:
            where = f"[{offset}, {offset + nbytes})"
            raise ValueError(f"range {where} overlaps, descends or leaves the file's {file_nbytes}")
        end = offset + nbytes
    if digests:
        _check_digests(file_nbytes, digests)


def _check_digests(file_nbytes: int, digests: bytes) -> None:
    expected = -(-file_nbytes // CHUNK_NBYTES) * DIGEST_NBYTES
    if len(digests) != expected:
        raise ValueError(f"{len(digests)} bytes of digests, {expected} for {file_nbytes} bytes")

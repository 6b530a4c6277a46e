"""The interface between Python and an engine.

An engine knows bytes, files and addresses: no tensors, names or manifests. A file is the
concatenation of *extents* of host memory and is digested in chunks of `CHUNK_NBYTES`, counted
from the first byte of the file. `native` and `reference` implement the interface with the same
bytes and the same results.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

CHUNK_NBYTES = 4 << 20
"""Unit of digest and of random access, in bytes of the file."""

DIGEST_NBYTES = 16
"""XXH3-128 of a chunk, in the canonical (big-endian) byte order of xxHash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strides:
    """Memory layout of one extent that is not contiguous.

    The extent's bytes are its elements in row-major order of `shape`.
    """

    extent: int
    """Index of the extent in its `Extents`; its address is that of element (0, …, 0)."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In bytes; zero and negative strides are allowed for sources."""
    itemsize: int


@dataclass(slots=True)
class Extents:
    """Pieces of host memory, in file order. The arrays have equal lengths."""

    addresses: array[int] = field(default_factory=lambda: array("Q"))
    nbytes: array[int] = field(default_factory=lambda: array("Q"))
    strided: list[Strides] = field(default_factory=list)
    keep_alive: list[Any] = field(default_factory=list)
    """Owners of the memory: held until the operation has ended."""

    def append(self, address: int, nbytes: int) -> None:
        """Adds `nbytes` bytes at `address`."""
        self.addresses.append(address)
        self.nbytes.append(nbytes)

    def append_bytes(self, data: bytes) -> None:
        """Adds `data` and keeps it alive."""
        address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
        self.append(address or 0, len(data))
        self.keep_alive.append(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """What a finished write says about its file."""

    nbytes: int
    digests: bytes
    """One digest per chunk, concatenated; empty where none were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptChunk:
    """A chunk whose bytes do not have the digest they should have."""

    index: int
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult:
    """Outcome of a finished read: which of the chunks that were read are corrupt."""

    nbytes: int
    """Bytes of the destinations, or of the file where all of it was verified."""
    corrupt: Sequence[CorruptChunk]
    crc32s: Sequence[int] = ()
    """zlib's CRC-32 of each destination, where they were asked for."""


class Ticket(Protocol):
    """A submitted operation. Thread-safe."""

    def progress(self) -> tuple[int, int]:
        """Bytes done and bytes in all."""
        ...

    def cancel(self) -> None:
        """Starts no further chunk; `wait` then raises `InterruptedError`."""
        ...


class WriteTicket(Ticket, Protocol):
    """A write under way."""

    def wait(self, timeout_s: float | None = None) -> WriteResult:
        """Blocks until the file is complete (and durable, if asked for).

        Raises:
            OSError: the first error, with its errno and the file's path.
            TimeoutError: not finished within `timeout_s`.
        """
        ...


class ReadTicket(Ticket, Protocol):
    """A read under way."""

    def wait(self, timeout_s: float | None = None) -> ReadResult:
        """Blocks until all bytes are in place; raises like `WriteTicket.wait`."""
        ...


class Engine(Protocol):
    """Writes and reads files whose bytes lie anywhere in memory. Thread-safe."""

    @property
    def name(self) -> str:
        """``"native"`` or ``"reference"``."""
        ...

    def write(self, path: str, sources: Extents, *, digest: bool = True, durable: bool = True) -> WriteTicket:
        """Creates `path` (which must not exist) from `sources`, one after another.

        `durable` includes an fsync of the file, not of its directory.
        """
        ...

    def read(
        self,
        path: str,
        offsets: array[int],
        destinations: Extents,
        *,
        file_nbytes: int,
        digests: bytes = b"",
        crc32: bool = False,
        fresh: bool = False,
        max_inflight_nbytes: int = 0,
    ) -> ReadTicket:
        """Fills destination *i* with the file's bytes from `offsets[i]` on.

        `offsets` is an array("Q"), ascending; the pieces must not overlap in the file.
        Where `digests` are given every chunk that is touched is read whole and checked. `crc32`
        asks for the CRC-32 of what each destination received; all must be contiguous then. `fresh`
        says that the destinations' memory has not been touched yet. `max_inflight_nbytes` bounds
        the transient memory (0: the engine's own bound; never below one chunk).
        A file that is not `file_nbytes` long is an OSError (EIO).
        """
        ...

    def verify(self, path: str, *, file_nbytes: int, digests: bytes) -> ReadTicket:
        """Reads the whole file and checks it against `digests`."""
        ...

    def digest(self, data: bytes | bytearray | memoryview) -> bytes:
        """XXH3-128 of `data`, canonical byte order."""
        ...

    def crc32(self, sources: Extents) -> list[int]:
        """CRC-32 (as zlib's) of each contiguous extent, computed in parallel."""
        ...

    def sync(self, paths: Sequence[str]) -> None:
        """fsyncs files and directories, side by side. The first failure is raised."""
        ...

    def stats(self) -> dict[str, Any]:
        """Backend, fall-backs with their reasons, and totals since the start."""
        ...

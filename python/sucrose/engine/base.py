"""The interface between Python and an engine.

An engine knows bytes, files and addresses: no tensors, names or manifests. A file is the
concatenation of *extents* of memory, of the host or of a CUDA device, and is digested in chunks of
`CHUNK_NBYTES`, counted from the first byte of the file. `native` and `reference` implement the interface with the same
bytes and the same results.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from sucrose.engine.relay import RelayedReadTicket, RelayedWriteTicket

CHUNK_NBYTES = 4 << 20
"""Unit of digest and of random access, in bytes of the file."""

DIGEST_NBYTES = 16
"""Of the digest of a chunk."""


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
    """Pieces of memory, in file order. The arrays have equal lengths, but for an empty `devices`."""

    addresses: array[int] = field(default_factory=lambda: array("Q"))
    nbytes: array[int] = field(default_factory=lambda: array("Q"))
    strided: list[Strides] = field(default_factory=list)
    keep_alive: list[Any] = field(default_factory=list)
    """Owners of the memory: held until the operation has ended, or a write has staged it."""
    devices: array[int] = field(default_factory=lambda: array("b"))
    """Ordinal of each extent's CUDA device, -1 for host memory; empty where all is host memory."""
    streams: dict[int, int] = field(default_factory=dict)
    """The caller's current stream on each of those devices: copies wait for the work on it."""

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
class Staging:
    """Asks a write to copy its sources first, so that they are free long before the file is complete."""

    mode: str = "auto"
    """``"device"`` (a copy on the device), ``"host"``, or ``"auto"``: the best that there is memory for."""
    budget_nbytes: int
    """Bound of the host memory that staging takes, of all writes under way together; a write for which
    less is left blocks instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """Asks a write to compress: each chunk of the file becomes zstd frames of its own."""

    level: int
    """Of zstd, -50 to 22; 0 codes the entropy of bytes alone and looks for no repeated strings."""
    groups: bytes = b""
    """For each chunk the item size of its byte-group filter: 2, 4, 8, or 0 for none. Empty: none at all."""
    adaptive: bool = False
    """Measure what compression and storage achieve, and store the rest as it is where it does not pay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredChunks:
    """Where the chunks of a compressed file lie: one after another, in their order."""

    sizes: array[int]
    """array("Q") of their bytes in the file."""
    groups: bytes
    """As `Encoding.groups`, but as it was really done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult:
    """What a finished write says about its file."""

    nbytes: int
    digests: bytes
    """One digest per chunk, concatenated; empty where none were asked for."""
    stored: StoredChunks | None = None
    """None where the bytes lie in the file as they are."""


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
    """A write under way.

    Without `Staging` the sources are safe and staged when the whole write has ended.
    """

    def wait_safe(self, timeout_s: float | None = None) -> None:
        """Blocks until the program may change the sources.

        Host memory has been copied then. Device memory has been, or will have been before anything
        runs that the program puts on the streams of `Extents.streams` from now on. Raises like
        `wait`.
        """
        ...

    def wait_staged(self, timeout_s: float | None = None) -> None:
        """Blocks until the sources may be freed, and lets go of `keep_alive`; raises like `wait`."""
        ...

    def staged(self) -> bool:
        """Whether `wait_staged` would return at once; raises like `wait`."""
        ...

    def staging(self) -> str:
        """Where the sources were copied to: ``"device"`` or ``"host"``.

        ``"blocking"`` where the budget was too small, so that they were safe only when written;
        ``"none"`` where no staging was asked for.
        """
        ...

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
    ) -> WriteTicket:
        """Creates `path` (which must not exist) from `sources`, one after another.

        `durable` includes an fsync of the file, not of its directory. Digests are of the bytes before
        `encoding`; `digest_kind` is ``"xxh3-128"``, or ``"sha256-128"`` (SHA-256 cut to 16 bytes) for
        those that must withstand a forger.
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
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> ReadTicket:
        """Fills destination *i* with the file's bytes from `offsets[i]` on.

        `offsets` is an array("Q"), ascending; the pieces must not overlap in the file.
        Where `digests` are given every chunk that is touched is read whole and checked. `crc32`
        asks for the CRC-32 of what each destination received; all must be contiguous then. `fresh`
        says that the destinations' memory has not been touched yet. `max_inflight_nbytes` bounds
        the transient memory (0: the engine's own bound; never below one chunk).
        A file that is not `file_nbytes` long is an OSError (EIO). With `stored` the file is compressed:
        offsets, `file_nbytes` and digests are of what it was before, and a chunk that cannot be decoded is
        corrupt.
        """
        ...

    def verify(
        self,
        path: str,
        *,
        file_nbytes: int,
        digests: bytes,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> ReadTicket:
        """Reads the whole file and checks it against `digests`."""
        ...

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
    ) -> RelayedWriteTicket:
        """As `write`, but the bytes of the file go through the caller's hands: see `relay`.

        `name` is the file's in errors, a URL for example. Without `encoding` it has as many bytes as the sources,
        else as many as `StoredChunks.sizes` says when all is done. `max_inflight_nbytes` bounds the blocks that
        are out (0: half of the engine's ring; never below one chunk).
        """
        ...

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
    ) -> RelayedReadTicket:
        """As `read`, but the caller brings the bytes of the file: see `relay`.

        Each request is for what is wanted of one chunk, in about the order of the file. `max_inflight_nbytes` bounds
        those that are out, and not yet in place (0: half of the engine's ring).
        """
        ...

    def verify_relayed(
        self,
        name: str,
        *,
        file_nbytes: int,
        digests: bytes,
        max_inflight_nbytes: int = 0,
        stored: StoredChunks | None = None,
        digest_kind: str = "xxh3-128",
    ) -> RelayedReadTicket:
        """As `verify`, but the caller brings the bytes of the file: see `relay`."""
        ...

    def digest(self, data: bytes | bytearray | memoryview, digest_kind: str = "xxh3-128") -> bytes:
        """That of `data` as of one chunk."""
        ...

    def crc32(self, sources: Extents) -> list[int]:
        """CRC-32 (as zlib's) of each contiguous extent, computed in parallel."""
        ...

    def fingerprint(self, sources: Extents, piece_nbytes: array[int]) -> bytes:
        """128 bits for each piece of each extent, which tell whether it is what it was before.

        Extent *i* is cut into pieces of `piece_nbytes[i]` (an array("Q")) bytes, the last one shorter. A piece
        of more than `CHUNK_NBYTES` has one fingerprint for each chunk of it. All are concatenated, and equal for
        equal bytes wherever they lie. Device memory is read in the order of `Extents.streams`. No digest for
        the disk: whoever wants two contents with one fingerprint can make them.
        """
        ...

    def reaches_device(self, ordinal: int) -> bool:
        """Whether extents may lie on this CUDA device; where not they are a `ValueError`."""
        ...

    def kept_staging_nbytes(self) -> int:
        """Host memory that staging keeps between writes: it is not free, and yet there for the next."""
        ...

    def trace(self, name: str, begin_s: float, end_s: float) -> None:
        """Adds a span to the trace of the pipeline, times from `time.perf_counter()`."""
        ...

    def sync(self, paths: Sequence[str]) -> None:
        """fsyncs files and directories, side by side. The first failure is raised."""
        ...

    def stats(self) -> dict[str, Any]:
        """Backend, fall-backs with their reasons, and totals since the start."""
        ...

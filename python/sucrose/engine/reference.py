"""The engine in pure Python: no native core, the same bytes and the same errors.

It reads and writes any snapshot where the native core cannot run, and every native result is
tested against it. Operations run inside the call that submits them, one chunk of memory at a time.
"""

from __future__ import annotations

import errno
import os
import threading
from array import array
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sucrose.engine.base import (
    CHUNK_NBYTES,
    DIGEST_NBYTES,
    CorruptChunk,
    Encoding,
    Extents,
    ReadResult,
    Staging,
    StoredChunks,
    WriteResult,
)
from sucrose.engine.blocks import blocks_of, chunks_of, crc32s_of
from sucrose.engine.digests import DigestFunction, ExpectedDigests, digest_function
from sucrose.engine.fingerprints import fingerprints_of
from sucrose.engine.frames import (
    UndecodableError,
    check_encoding,
    check_stored,
    decode_chunk,
    encode_chunk,
    offsets_of,
)
from sucrose.engine.reference_relay import ReferenceRelayedRead, ReferenceRelayedWrite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
            digests, stored = _write_file(
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
            corrupt = _read_file(path, offsets, destinations, file_nbytes, expected, stored)
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
            with _opened(path, _nbytes_on_disk(file_nbytes, stored)) as fd:
                reader = _ChunkReader(fd, path, file_nbytes, expected, stored)
                for index in range(len(digests) // DIGEST_NBYTES):
                    reader.load(index)
        except OSError as error:
            return FinishedTicket(nbytes=file_nbytes, error=error)
        self._count(nbytes_read=file_nbytes)
        result = ReadResult(nbytes=file_nbytes, corrupt=reader.corrupt)
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
                _fsync(fd, path)
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


def _write_file(
    path: str, sources: Extents, *, digest_of: DigestFunction | None, durable: bool, encoding: Encoding | None
) -> tuple[bytes, StoredChunks | None]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    digests = bytearray()
    sizes, groups = array("Q"), bytearray()
    fd = os.open(path, flags, 0o666)
    try:
        offset = 0
        for chunk in chunks_of(sources):
            if digest_of is not None:
                digests += digest_of(chunk)
            data = chunk
            if encoding is not None:
                itemsize = encoding.groups[len(sizes)] if encoding.groups else 0
                frames, used_itemsize = encode_chunk(chunk, itemsize, encoding.level)
                data = memoryview(frames)
                sizes.append(len(data))
                groups.append(used_itemsize)
            _write_all(fd, path, data, offset)
            offset += len(data)
        if durable:
            _fsync(fd, path)
    finally:
        os.close(fd)
    stored = None if encoding is None else StoredChunks(sizes=sizes, groups=bytes(groups) if any(groups) else b"")
    return bytes(digests), stored


def _write_all(fd: int, path: str, data: memoryview, offset: int) -> None:
    while data:
        try:
            written = os.pwrite(fd, data, offset)
        except OSError as error:
            error.filename = path
            raise
        data = data[written:]
        offset += written


def _fsync(fd: int, path: str) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        error.filename = path
        raise


def _read_file(
    path: str,
    offsets: array[int],
    destinations: Extents,
    file_nbytes: int,
    expected: ExpectedDigests,
    stored: StoredChunks | None,
) -> list[CorruptChunk]:
    with _opened(path, _nbytes_on_disk(file_nbytes, stored)) as fd:
        reader = _ChunkReader(fd, path, file_nbytes, expected, stored)
        for block in blocks_of(destinations):
            block.scatter(reader.read(offsets[block.extent] + block.offset, block.nbytes))
    return reader.corrupt


def _nbytes_on_disk(file_nbytes: int, stored: StoredChunks | None) -> int:
    return file_nbytes if stored is None else sum(stored.sizes)


@contextmanager
def _opened(path: str, file_nbytes: int) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(fd).st_size
        if found != file_nbytes:
            raise OSError(errno.EIO, f"{found} bytes long, expected {file_nbytes}", path)
        yield fd
    finally:
        os.close(fd)


class _ChunkReader:
    """Reads ranges of a file through one whole chunk at a time, checking each chunk once."""

    def __init__(
        self, fd: int, path: str, file_nbytes: int, expected: ExpectedDigests, stored: StoredChunks | None
    ) -> None:
        self.corrupt: list[CorruptChunk] = []
        self._fd = fd
        self._path = path
        self._nbytes = file_nbytes
        self._expected = expected
        self._stored = stored
        self._stored_offsets = array("Q") if stored is None else offsets_of(stored)
        self._index = -1
        self._buffer = memoryview(bytearray(min(CHUNK_NBYTES, file_nbytes)))

    def read(self, offset: int, nbytes: int) -> memoryview:
        """The file's bytes from `offset`: a view that is valid until the next call."""
        first, start = divmod(offset, CHUNK_NBYTES)
        if start + nbytes <= CHUNK_NBYTES:
            return self.load(first)[start : start + nbytes]
        parts = bytearray()
        for index in range(first, -(-(offset + nbytes) // CHUNK_NBYTES)):
            parts += self.load(index)[start : start + nbytes - len(parts)]
            start = 0
        return memoryview(parts)

    def load(self, index: int) -> memoryview:
        """Chunk `index`, read and checked unless it is the one at hand."""
        start = index * CHUNK_NBYTES
        chunk = self._buffer[: min(CHUNK_NBYTES, self._nbytes - start)]
        if index == self._index:
            return chunk
        try:
            if self._stored is None:
                self._fill(chunk, start)
            else:
                chunk[:] = self._decoded(self._stored, index, len(chunk))
            corrupt = self._expected.corrupt(index, chunk)
        except UndecodableError as error:
            chunk[:] = bytes(len(chunk))
            corrupt = self._expected.corrupt_as(index, f"not decodable: {error}")
        self._index = index
        if corrupt is not None:
            self.corrupt.append(corrupt)
        return chunk

    def _decoded(self, stored: StoredChunks, index: int, nbytes: int) -> bytes:
        encoded = memoryview(bytearray(stored.sizes[index]))
        self._fill(encoded, self._stored_offsets[index])
        return decode_chunk(encoded, stored.groups[index] if stored.groups else 0, nbytes)

    def _fill(self, chunk: memoryview, offset: int) -> None:
        while chunk:
            try:
                got = os.preadv(self._fd, [chunk], offset)
            except OSError as error:
                error.filename = self._path
                raise
            if got == 0:
                raise OSError(errno.EIO, f"ended early, at byte {offset}", self._path)
            chunk = chunk[got:]
            offset += got


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

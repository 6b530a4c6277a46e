"""Files of the reference engine: written, read and verified one chunk at a time."""

from __future__ import annotations

import errno
import os
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sucrose.engine.base import CHUNK_NBYTES, CorruptChunk, Encoding, Extents, StoredChunks
from sucrose.engine.blocks import blocks_of, chunks_of
from sucrose.engine.digests import DigestFunction, ExpectedDigests
from sucrose.engine.frames import UndecodableError, decode_chunk, encode_chunk, offsets_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def write_file(
    path: str, sources: Extents, *, digest_of: DigestFunction | None, durable: bool, encoding: Encoding | None
) -> tuple[bytes, StoredChunks | None]:
    """Creates a file; returns the digests of its chunks, and where those lie if they are encoded."""
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
            fsync(fd, path)
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


def fsync(fd: int, path: str) -> None:
    """As `os.fsync`, with the path in the error."""
    try:
        os.fsync(fd)
    except OSError as error:
        error.filename = path
        raise


def read_file(
    path: str,
    offsets: array[int],
    destinations: Extents,
    file_nbytes: int,
    expected: ExpectedDigests,
    stored: StoredChunks | None,
) -> list[CorruptChunk]:
    """Fills destinations from a file; returns what is not as its digests say."""
    with _opened(path, _nbytes_on_disk(file_nbytes, stored)) as fd:
        reader = _ChunkReader(fd, path, file_nbytes, expected, stored)
        for block in blocks_of(destinations):
            block.scatter(reader.read(offsets[block.extent] + block.offset, block.nbytes))
    return reader.corrupt


def verify_file(
    path: str, file_nbytes: int, expected: ExpectedDigests, stored: StoredChunks | None, n_chunks: int
) -> list[CorruptChunk]:
    """Reads all chunks of a file; returns what is not as its digests say."""
    with _opened(path, _nbytes_on_disk(file_nbytes, stored)) as fd:
        reader = _ChunkReader(fd, path, file_nbytes, expected, stored)
        for index in range(n_chunks):
            reader.load(index)
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

"""Chunks as zstd frames, in plain Python: what the native core's `codec` does, frame for frame.

The encoders need not agree on the bytes, only on what they decode to. Frames of other programs are taken
as well, as long as each tells its size and nothing in it is larger than a chunk.
"""

from __future__ import annotations

from array import array

import zstandard

from sucrose.engine.base import CHUNK_NBYTES, Encoding, StoredChunks

MAX_OVERHEAD_NBYTES = 1024
"""What the frames of a chunk may have more than the chunk."""
MAX_WINDOW_NBYTES = 8 << 20
"""Of a frame that is read."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_BLOCK_NBYTES = 128 << 10
_RAW, _RLE, _RESERVED = 0, 1, 3  # types of blocks
_MIN_GAIN_DIVISOR = 64  # a frame that saves less is stored
_ITEMSIZES = (0, 2, 4, 8)
_LEVELS = range(-50, 23)
_ENTROPY_ONLY, _LEVEL_FOR_THAT = 0, 1


class UndecodableError(ValueError):
    """The bytes are no frames of a chunk of the expected size; the message says why."""


def check_encoding(encoding: Encoding, file_nbytes: int) -> None:
    """Raises ValueError where `encoding` does not suit a file of `file_nbytes` bytes."""
    if encoding.level not in _LEVELS:
        raise ValueError(f"compression level {encoding.level} is not within {_LEVELS[0]} to {_LEVELS[-1]}")
    _check_groups(encoding.groups, _chunk_count(file_nbytes))


def check_stored(stored: StoredChunks, file_nbytes: int) -> None:
    """Raises ValueError where `stored` cannot be the chunk table of a file of `file_nbytes` raw bytes."""
    count = _chunk_count(file_nbytes)
    if len(stored.sizes) != count:
        raise ValueError(f"a chunk table of {len(stored.sizes)} chunks, {count} expected for {file_nbytes} bytes")
    _check_groups(stored.groups, count)
    for index, nbytes in enumerate(stored.sizes):
        raw = min(CHUNK_NBYTES, file_nbytes - index * CHUNK_NBYTES)
        if not 0 < nbytes <= raw + MAX_OVERHEAD_NBYTES:
            raise ValueError(f"chunk {index} of {raw} bytes cannot be encoded in {nbytes}")


def offsets_of(stored: StoredChunks) -> array[int]:
    """Where each encoded chunk begins in its file, and at last where the file ends."""
    offsets = array("Q", [0])
    for nbytes in stored.sizes:
        offsets.append(offsets[-1] + nbytes)
    return offsets


def encode_chunk(chunk: memoryview, itemsize: int, level: int) -> tuple[bytes, int]:
    """The frames of a chunk, and the item size of the filter that was used in the end.

    Example:
        >>> from sucrose.engine.frames import decode_chunk, encode_chunk
        >>> frames, itemsize = encode_chunk(memoryview(bytes(1000)), 2, 0)
        >>> len(frames) < 50, decode_chunk(memoryview(frames), itemsize, 1000) == bytes(1000)
        (True, True)
    """
    compressor = zstandard.ZstdCompressor(level=_LEVEL_FOR_THAT if level == _ENTROPY_ONLY else level)
    planes = _planes(chunk, itemsize) if itemsize and len(chunk) >= itemsize else [bytes(chunk)]
    frames: list[bytes] = []
    stored = 0
    for plane in planes:
        frame = compressor.compress(plane)
        if len(frame) >= len(plane) - len(plane) // _MIN_GAIN_DIVISOR:
            frame = _stored_frame(plane)
            stored += 1
        frames.append(frame)
    if stored == len(planes):
        return _stored_frame(bytes(chunk)), 0
    return b"".join(frames), itemsize if len(planes) > 1 else 0


def decode_chunk(encoded: memoryview, itemsize: int, nbytes: int) -> bytes:
    """The `nbytes` raw bytes of a chunk.

    Raises:
        UndecodableError: there are not exactly so many in `encoded`.
    """
    content = bytearray()
    begin = 0
    while begin < len(encoded):
        end = _frame_end(encoded, begin, nbytes - len(content))
        try:
            content += zstandard.ZstdDecompressor().decompress(encoded[begin:end])
        except zstandard.ZstdError as error:
            raise UndecodableError(f"{error} at byte {begin} of the chunk") from error
        begin = end
    if len(content) != nbytes:
        raise UndecodableError(f"frames of {len(content)} bytes, not {nbytes}")
    return _merged(content, itemsize) if itemsize else bytes(content)


def _chunk_count(file_nbytes: int) -> int:
    return -(-file_nbytes // CHUNK_NBYTES)


def _check_groups(groups: bytes, chunk_count: int) -> None:
    if groups and len(groups) != chunk_count:
        raise ValueError(f"{len(groups)} byte-group filters for {chunk_count} chunks")
    for itemsize in set(groups):
        if itemsize not in _ITEMSIZES:
            raise ValueError(f"byte groups are of items of 2, 4 or 8 bytes, not {itemsize}")


def _planes(chunk: memoryview, itemsize: int) -> list[bytes]:
    """All first bytes, all second bytes and so on; what is left over follows the last plane."""
    whole = len(chunk) - len(chunk) % itemsize
    planes = [bytes(chunk[plane:whole:itemsize]) for plane in range(itemsize)]
    planes[-1] += chunk[whole:]
    return planes


def _merged(content: bytearray, itemsize: int) -> bytes:
    count = len(content) // itemsize
    merged = bytearray(content)  # what is left over lies at the end of both
    for plane in range(itemsize):
        merged[plane : itemsize * count : itemsize] = content[plane * count : (plane + 1) * count]
    return bytes(merged)


def _stored_frame(content: bytes) -> bytes:
    """A frame of raw blocks: single segment, content size in four bytes."""
    parts = [_MAGIC, b"\xa0", len(content).to_bytes(4, "little")]
    for begin in range(0, len(content) or 1, _BLOCK_NBYTES):
        block = content[begin : begin + _BLOCK_NBYTES]
        last = begin + _BLOCK_NBYTES >= len(content)
        parts += [(len(block) << 3 | _RAW << 1 | last).to_bytes(3, "little"), block]
    return b"".join(parts)


def _frame_end(encoded: memoryview, begin: int, left_nbytes: int) -> int:
    """Where the frame at `begin` ends, which may have no more content than `left_nbytes`."""
    where = f"at byte {begin} of the chunk"
    if encoded[begin : begin + 4] != _MAGIC:
        raise UndecodableError(f"no zstd frame {where}")
    try:
        header = zstandard.get_frame_parameters(encoded[begin : begin + 18])
    except zstandard.ZstdError as error:
        raise UndecodableError(f"no zstd frame {where}: {error}") from error
    if header.dict_id:
        raise UndecodableError(f"a frame with a dictionary {where}")
    if header.window_size > MAX_WINDOW_NBYTES:
        raise UndecodableError(f"a frame with a window of {header.window_size} bytes {where}")
    if header.content_size > left_nbytes:  # unknown is the largest number of all
        raise UndecodableError(f"a frame of more than the chunk's {left_nbytes} bytes {where}")
    descriptor = encoded[begin + 4]
    single_segment = descriptor >> 5 & 1
    content_size_nbytes = (single_segment, 2, 4, 8)[descriptor >> 6]
    dictionary_nbytes = (0, 1, 2, 4)[descriptor & 3]
    at = begin + 5 + (1 - single_segment) + dictionary_nbytes + content_size_nbytes
    last = False
    while not last and at + 3 <= len(encoded):
        fields = int.from_bytes(encoded[at : at + 3], "little")
        last, kind, size = bool(fields & 1), fields >> 1 & 3, fields >> 3
        if kind == _RESERVED:
            raise UndecodableError(f"a block of no known type {where}")
        at += 3 + (1 if kind == _RLE else size)
    at += 4 if header.has_checksum else 0
    if not last or at > len(encoded):
        raise UndecodableError(f"a frame without an end {where}")
    return at

"""A compressed file and its chunk table, in both engines.

One byte says whether there is a full chunk before the last one, two how long that is, three for each chunk its bytes in
the file and the item size of its filter; the rest is the file.
"""

from __future__ import annotations

import ctypes
from array import array
from contextlib import suppress
from pathlib import Path

import zstandard

from fuzz_targets.scratch import scratch_folder
from sucrose.engine import CHUNK_NBYTES, Extents, StoredChunks, get_engine
from sucrose.errors import SucroseError

_FOLDER = scratch_folder()
_memory = bytearray(CHUNK_NBYTES + (1 << 16))
_ADDRESS = ctypes.addressof(ctypes.c_char.from_buffer(_memory))


def seeds() -> dict[str, bytes]:
    """Frames with and without a filter, several in one chunk, skippable ones, and a full chunk before."""
    compress = zstandard.ZstdCompressor(level=1).compress
    text = b"abcd" * 50
    planes = b"".join(text[group::4] for group in range(4))
    split = compress(planes[:50]) + compress(planes[50:])
    full, skippable = compress(bytes(CHUNK_NBYTES)), b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip"
    noise = bytes(range(256))
    return {
        "one_frame": _packed(200, [(compress(text), 0)]),
        "two_frames_split": _packed(200, [(split, 4)]),
        "skippable": _packed(200, [(skippable + compress(text), 0)]),
        "full_and_last": _packed(256, [(full, 2), (compress(noise), 8)]),
        "no_size_told": _packed(200, [(zstandard.ZstdCompressor(write_content_size=False).compress(text), 0)]),
    }


def check(data: bytes) -> None:
    """Either engine gives the bytes or says that a chunk is corrupt, and both give the same."""
    if len(data) < 10:
        return
    chunks = 1 + (data[0] & 1)
    tail = int.from_bytes(data[1:3], "little")
    table = [data[3 + 3 * i : 6 + 3 * i] for i in range(chunks)]
    content = data[3 + 3 * chunks :]
    sizes = array("Q", [int.from_bytes(entry[:2], "little") for entry in table])
    stored = StoredChunks(sizes=sizes, groups=bytes(entry[2] for entry in table))
    path = str(_FOLDER / "file")
    Path(path).write_bytes(content)
    found = [_read(name, path, (chunks - 1) * CHUNK_NBYTES + tail, stored) for name in ("native", "reference")]
    decoded = [each for each in found if each is not None]
    assert not decoded or decoded[0] == decoded[-1]


def _packed(tail: int, chunks: list[tuple[bytes, int]]) -> bytes:
    table = b"".join(len(frames).to_bytes(2, "little") + bytes([group]) for frames, group in chunks)
    return bytes([len(chunks) - 1]) + tail.to_bytes(2, "little") + table + b"".join(frames for frames, _ in chunks)


def _read(engine_name: str, path: str, nbytes: int, stored: StoredChunks) -> bytes | None:
    """None where it is refused."""
    engine = get_engine(engine_name)
    destination = memoryview(_memory)[:nbytes]
    extents = Extents(keep_alive=[destination])
    extents.append(_ADDRESS, nbytes)
    with suppress(SucroseError, OSError, ValueError):
        result = engine.read(path, array("Q", [0]), extents, file_nbytes=nbytes, stored=stored).wait()
        verified = engine.verify(path, file_nbytes=nbytes, digests=b"", stored=stored).wait()
        assert bool(result.corrupt) == bool(verified.corrupt)
        return None if result.corrupt else bytes(destination)
    return None

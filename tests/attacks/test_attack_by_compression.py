"""Compressed chunks that are bombs: however much they claim or unfold to, no more is decoded than the chunk has."""

from __future__ import annotations

import json
import struct
from array import array
from pathlib import Path
from typing import Any

import pytest
import torch
import zstandard
from forged_snapshots import digests_of, write_index_line

from sucrose import Snapshot, StateDict
from sucrose.engine import CHUNK_NBYTES, Extents, StoredChunks, get_engine
from sucrose.errors import CorruptionError

DATA = "data/0_0.safetensors"
RAW = b"abcd" * 256
MAGIC = 0xFD2FB528


def frame(content: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(level=1, **options).compress(content)


def repeated(nbytes: int, *, claimed: int) -> bytes:
    """A frame of one byte over and over: four bytes for each 128 KiB, and any size in its header."""
    blocks = b""
    left = nbytes
    while left:
        take = min(left, 128 << 10)
        left -= take
        blocks += ((take << 3) | (1 << 1) | (left == 0)).to_bytes(3, "little") + b"a"
    return struct.pack("<IBBQ", MAGIC, 0xC0, 0x58, claimed) + blocks


def with_dictionary() -> bytes:
    samples = [bytes([n % 7, n % 5, n % 3]) * 40 for n in range(200)]
    return frame(RAW, dict_data=zstandard.train_dictionary(1024, samples))


BOMBS = {
    "unfolds to a gigabyte": repeated(1 << 30, claimed=1 << 30),
    "unfolds to a gigabyte and claims less": repeated(1 << 30, claimed=len(RAW)),
    "claims an exabyte": repeated(len(RAW), claimed=1 << 60),
    "claims all there is": repeated(len(RAW), claimed=(1 << 64) - 1),
    "does not say how much": frame(RAW, write_content_size=False),
    "is shorter than the chunk": frame(RAW[:-1]),
    "is longer than the chunk": frame(RAW + b"x"),
    "wants a window of 2 GiB": struct.pack("<IBBQ", MAGIC, 0xC0, 0xA8, len(RAW)) + frame(RAW)[6:],
    "has a dictionary": with_dictionary(),
    "is cut off": frame(RAW)[:-3],
    "has something behind it": frame(RAW) + b"garbage",
    "is only skipped": struct.pack("<II", 0x184D2A50, 4) + b"skip",
    "skips behind the end": frame(RAW) + struct.pack("<II", 0x184D2A50, 0xFFFFFFFF),
    "is no frame": b"not a frame of anything" * 3,
    "has a block of a reserved kind": struct.pack("<IBBQ", MAGIC, 0xC0, 0x58, len(RAW)) + b"\x07\x00\x00",
    "has a thousand empty frames": frame(b"") * 80,
}


@pytest.mark.parametrize("group", [0, 4])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_a_corrupt_chunk_and_writes_nowhere_else(
    each_engine: str, tmp_path: Path, kind: str, group: int
) -> None:
    frames = BOMBS[kind]
    (tmp_path / "file").write_bytes(frames)
    stored = StoredChunks(sizes=array("Q", [len(frames)]), groups=bytes([group]))
    guard = b"\xa5" * 4096
    memory = torch.frombuffer(bytearray(guard + bytes(len(RAW)) + guard), dtype=torch.uint8)
    extents = Extents(keep_alive=[memory])
    extents.append(memory.data_ptr() + len(guard), len(RAW))
    engine = get_engine()
    if len(frames) > len(RAW) + 1024:
        with pytest.raises(ValueError, match="cannot be encoded in"):  # known by its length already
            engine.read(str(tmp_path / "file"), array("Q", [0]), extents, file_nbytes=len(RAW), stored=stored)
    else:
        request = (str(tmp_path / "file"), array("Q", [0]), extents)
        result = engine.read(*request, file_nbytes=len(RAW), stored=stored).wait()
        assert [chunk.index for chunk in result.corrupt] == [0]
        assert "not decodable" in result.corrupt[0].found
    assert bytes(memory[: len(guard)].tolist()) == guard
    assert bytes(memory[-len(guard) :].tolist()) == guard


def compressed(folder: Path, frames: bytes, raw_nbytes: int, **record: Any) -> None:
    """Says in the index that the data file is compressed, and makes it these frames."""
    metadata = json.loads((folder / ".snapshot_metadata").read_bytes())
    metadata["manifest"]["0/state/weight"]["serializer"] = "buffer_protocol_zstd"
    encoded = json.dumps(metadata).encode()
    (folder / ".snapshot_metadata").write_bytes(encoded)
    (folder / DATA).write_bytes(frames)
    index = json.loads((folder / ".snapshot_index").read_bytes().partition(b"\n")[0])
    index["format_version"] = 2
    index["metadata"] = {"nbytes": len(encoded), "digests": digests_of(encoded)}
    chunks = -(-raw_nbytes // CHUNK_NBYTES)
    stored = {"codec": "zstd", "sizes": [len(frames)] * chunks, **record}
    index["files"][DATA] = {"nbytes": raw_nbytes, "digests": "00" * 16 * chunks, "stored": stored}
    write_index_line(folder, json.dumps(index).encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Snapshot.take(tmp_path / "s", {"state": StateDict(weight=torch.ones(6))})
    return tmp_path / "s"


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("kind", BOMBS)
def test_a_snapshot_with_a_bomb_in_it_is_corrupt(each_engine: str, folder: Path, kind: str, verify: bool) -> None:
    compressed(folder, BOMBS[kind], 4120)
    with pytest.raises(CorruptionError) as caught:
        Snapshot(folder).read_object("0/state/weight", verify=verify)
    assert str(folder) in str(caught.value.path)
    assert not Snapshot(folder).verify()


@pytest.mark.parametrize(
    "sizes", [[1 << 62], [1 << 64], [10**30], [-1], [0], [0.5], ["9"], None, [40, 40], [], [4120 + 1025]], ids=str
)
def test_a_table_that_cannot_be_is_refused(each_engine: str, folder: Path, sizes: Any) -> None:
    compressed(folder, frame(RAW), 4120, sizes=sizes)
    with pytest.raises(CorruptionError):
        Snapshot(folder).read_object("0/state/weight")
    assert not Snapshot(folder).verify()

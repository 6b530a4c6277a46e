"""Compressed files: both engines, each other's files, other programs' decoders, and hostile ones."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import shutil
import struct
import subprocess
import zlib
from array import array
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
import xxhash
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sucrose.engine import CHUNK_NBYTES, Encoding, Extents, Staging, StoredChunks, get_engine

if TYPE_CHECKING:
    from pathlib import Path

    from sucrose.engine import Engine, WriteResult

ENGINES = ["reference", "native"]
PAIRS = [(writer, reader) for writer in ENGINES for reader in ENGINES]
SIZES = [1, 2, 7, 4096, CHUNK_NBYTES - 1, CHUNK_NBYTES, CHUNK_NBYTES + 1, 2 * CHUNK_NBYTES + 4099]
ENTROPY_ONLY = 0


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return get_engine(request.param)


def weights(nbytes: int, dtype: torch.dtype = torch.bfloat16) -> bytes:
    """Bytes of numbers around zero."""
    generator = torch.Generator().manual_seed(nbytes)
    count = nbytes // dtype.itemsize + 1
    return torch.randn(count, generator=generator).to(dtype).view(torch.uint8).numpy().tobytes()[:nbytes]


def noise(nbytes: int) -> bytes:
    generator = torch.Generator().manual_seed(nbytes)
    return torch.randint(256, (nbytes,), dtype=torch.uint8, generator=generator).numpy().tobytes()


def chunk_count(nbytes: int) -> int:
    return -(-nbytes // CHUNK_NBYTES)


def encoding_of(content: bytes, itemsize: int = 2, level: int = ENTROPY_ONLY) -> Encoding:
    return Encoding(level=level, groups=bytes([itemsize]) * chunk_count(len(content)))


def extents_of(*pieces: bytes) -> Extents:
    extents = Extents()
    for piece in pieces:
        extents.append_bytes(piece)
    return extents


def destinations_in(*buffers: bytearray) -> Extents:
    destinations = Extents(keep_alive=list(buffers))
    for buffer in buffers:
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0
        destinations.append(address, len(buffer))
    return destinations


def write(engine: Engine, path: Path, content: bytes, encoding: Encoding) -> WriteResult:
    third = len(content) // 3
    sources = extents_of(content[:third], content[third:])
    return engine.write(str(path), sources, durable=False, encoding=encoding).wait()


def stored_of(result: WriteResult) -> StoredChunks:
    assert result.stored is not None
    return result.stored


def read(
    engine: Engine, path: Path, result: WriteResult, ranges: list[tuple[int, int]], **options: object
) -> tuple[list[bytes], list[tuple[int, str]]]:
    """The bytes of each (offset, size), and (index, found) of corrupt chunks."""
    buffers = [bytearray(nbytes) for _, nbytes in ranges]
    destinations = destinations_in(*buffers)
    arguments: dict[str, object] = {"file_nbytes": result.nbytes, "digests": result.digests, "stored": result.stored}
    outcome = engine.read(
        str(path), array("Q", [offset for offset, _ in ranges]), destinations, **{**arguments, **options}
    ).wait()
    return [bytes(buffer) for buffer in buffers], [(chunk.index, chunk.found) for chunk in outcome.corrupt]


def read_all(engine: Engine, path: Path, result: WriteResult) -> bytes:
    (content,), corrupt = read(engine, path, result, [(0, result.nbytes)])
    assert corrupt == []
    return content


def filtered(content: bytes, groups: bytes) -> bytes:
    """What a decoder that knows nothing of filters must find in the file."""
    parts = []
    for index in range(chunk_count(len(content))):
        chunk = content[index * CHUNK_NBYTES : (index + 1) * CHUNK_NBYTES]
        itemsize = groups[index] if groups else 0
        whole = len(chunk) - len(chunk) % itemsize if itemsize else 0
        parts += [chunk[plane:whole:itemsize] for plane in range(itemsize)]
        parts.append(chunk[whole:])
    return b"".join(parts)


@pytest.mark.parametrize("nbytes", SIZES)
@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_each_engine_reads_what_the_other_compressed(tmp_path: Path, nbytes: int, writer: str, reader: str) -> None:
    content = weights(nbytes)
    result = write(get_engine(writer), tmp_path / "file", content, encoding_of(content))
    assert result.nbytes == nbytes
    assert os.path.getsize(tmp_path / "file") == sum(stored_of(result).sizes)
    assert result.digests == b"".join(
        xxhash.xxh3_128_digest(content[at : at + CHUNK_NBYTES]) for at in range(0, nbytes, CHUNK_NBYTES)
    )
    assert read_all(get_engine(reader), tmp_path / "file", result) == content
    verified = get_engine(reader).verify(
        str(tmp_path / "file"), file_nbytes=nbytes, digests=result.digests, stored=result.stored
    )
    assert list(verified.wait().corrupt) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pair=st.sampled_from(PAIRS),
    nbytes=st.sampled_from([0, 1, 5, CHUNK_NBYTES, 2 * CHUNK_NBYTES]).flatmap(
        lambda size: st.integers(max(0, size - 9), size + 9)
    ),
    itemsizes=st.lists(st.sampled_from([0, 2, 4, 8]), min_size=3, max_size=3),
    level=st.sampled_from([0, -50, -1, 1, 4]),
    kind=st.sampled_from(["weights", "noise", "zeros"]),
    data=st.data(),
)
def test_any_size_filter_and_level_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    pair: tuple[str, str],
    nbytes: int,
    itemsizes: list[int],
    level: int,
    kind: str,
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("encoding") / "file"
    content = {"weights": weights, "noise": noise, "zeros": bytes}[kind](nbytes)
    groups = bytes(itemsizes[: chunk_count(nbytes)])
    result = write(get_engine(pair[0]), path, content, Encoding(level=level, groups=groups))
    assert read_all(get_engine(pair[1]), path, result) == content
    begin = data.draw(st.integers(0, nbytes))
    end = data.draw(st.integers(begin, nbytes))
    for digests in (result.digests, b""):
        (piece,), corrupt = read(get_engine(pair[1]), path, result, [(begin, end - begin)], digests=digests)
        assert (piece, corrupt) == (content[begin:end], [])


@pytest.mark.parametrize("itemsize", [0, 2, 4, 8])
@pytest.mark.parametrize("content", [weights(CHUNK_NBYTES + 1001), noise(CHUNK_NBYTES + 3)], ids=["weights", "noise"])
def test_python_zstandard_decodes_the_whole_file(engine: Engine, tmp_path: Path, itemsize: int, content: bytes) -> None:
    result = write(engine, tmp_path / "file", content, encoding_of(content, itemsize))
    with zstandard.ZstdDecompressor().stream_reader(
        io.BytesIO((tmp_path / "file").read_bytes()), read_across_frames=True
    ) as stream:
        assert stream.read() == filtered(content, stored_of(result).groups)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="needs the zstd tool (apt-get install zstd)")
@pytest.mark.parametrize("level", [0, 3])
def test_the_zstd_tool_decodes_a_file_without_filter(engine: Engine, tmp_path: Path, level: int) -> None:
    content = weights(CHUNK_NBYTES + 77) + noise(CHUNK_NBYTES)
    write(engine, tmp_path / "file.zst", content, Encoding(level=level))
    subprocess.run(["zstd", "-q", "-t", str(tmp_path / "file.zst")], check=True)
    subprocess.run(["zstd", "-q", "-d", str(tmp_path / "file.zst")], check=True)
    assert (tmp_path / "file").read_bytes() == content


def test_exponents_compress_and_mantissas_do_not(engine: Engine, tmp_path: Path) -> None:
    content = weights(2 * CHUNK_NBYTES)
    with_filter = write(engine, tmp_path / "filter", content, encoding_of(content))
    without = write(engine, tmp_path / "none", content, Encoding(level=1))
    assert stored_of(with_filter).groups == b"\2\2"
    assert stored_of(without).groups == b""
    assert sum(stored_of(with_filter).sizes) < 0.7 * len(content)
    assert sum(stored_of(with_filter).sizes) < sum(stored_of(without).sizes)


def test_what_does_not_compress_grows_by_almost_nothing(engine: Engine, tmp_path: Path) -> None:
    content = noise(2 * CHUNK_NBYTES + 17)
    for name, encoding in {"filter": encoding_of(content, 4), "none": Encoding(level=3)}.items():
        result = write(engine, tmp_path / name, content, encoding)
        assert stored_of(result).groups == b""
        assert sum(stored_of(result).sizes) < len(content) + 400


def test_a_file_without_bytes_is_empty(engine: Engine, tmp_path: Path) -> None:
    result = write(engine, tmp_path / "file", b"", Encoding(level=1))
    assert (tmp_path / "file").read_bytes() == b""
    assert (len(stored_of(result).sizes), result.digests) == (0, b"")
    assert read_all(engine, tmp_path / "file", result) == b""


def test_bytes_that_are_not_compressed_have_no_chunk_table(engine: Engine, tmp_path: Path) -> None:
    result = engine.write(str(tmp_path / "file"), extents_of(b"plain"), durable=False).wait()
    assert result.stored is None


def test_a_staged_write_compresses_what_was_there_when_it_was_safe(tmp_path: Path) -> None:
    tensor = torch.randn(3_000_000)
    before = tensor.clone()
    sources = Extents(keep_alive=[tensor])
    sources.append(tensor.data_ptr(), tensor.nbytes)
    ticket = get_engine("native").write(
        str(tmp_path / "file"),
        sources,
        durable=False,
        staging=Staging(budget_nbytes=64 << 20),
        encoding=Encoding(level=0, groups=b"\4" * chunk_count(tensor.nbytes)),
    )
    ticket.wait_safe()
    tensor.zero_()
    result = ticket.wait()
    assert read_all(get_engine("native"), tmp_path / "file", result) == before.view(torch.uint8).numpy().tobytes()


def test_crc32s_are_of_the_raw_bytes(engine: Engine, tmp_path: Path) -> None:
    content = weights(CHUNK_NBYTES + 5000)
    result = write(engine, tmp_path / "file", content, encoding_of(content))
    outcome = engine.read(
        str(tmp_path / "file"),
        array("Q", [1000]),
        destinations_in(bytearray(CHUNK_NBYTES)),
        file_nbytes=len(content),
        stored=result.stored,
        crc32=True,
    ).wait()
    assert list(outcome.crc32s) == [zlib.crc32(content[1000 : 1000 + CHUNK_NBYTES])]


def test_digests_of_both_kinds_are_checked_behind_compression(engine: Engine, tmp_path: Path) -> None:
    content = weights(CHUNK_NBYTES + 5000)
    result = engine.write(
        str(tmp_path / "file"),
        extents_of(content),
        durable=False,
        encoding=encoding_of(content),
        digest_kind="sha256-128",
    ).wait()
    (found,), corrupt = read(engine, tmp_path / "file", result, [(0, len(content))], digest_kind="sha256-128")
    assert (found, corrupt) == (content, [])


def damaged(path: Path, at: int, new: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(new)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x50\x2a\x4d\x18" + struct.pack("<I", 100), id="skippable"),
        pytest.param(b"\x28\xb5\x2f\xfd\xc0\x00" + struct.pack("<Q", 1 << 60), id="claims 2^60 bytes"),
        pytest.param(b"\x28\xb5\x2f\xfd\xa1\x07" + struct.pack("<I", 100), id="dictionary"),
        pytest.param(b"\x28\xb5\x2f\xfd\x80\xa8" + struct.pack("<I", 100), id="window of 2^31 bytes"),
        pytest.param(b"\x28\xb5\x2f\xfd\x00\x50\x01\x00\x00", id="tells no size"),
        pytest.param(b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", CHUNK_NBYTES + 1), id="larger than its chunk"),
        pytest.param(b"\0" * 12, id="zeros"),
    ],
)
def test_a_hostile_frame_is_a_corrupt_chunk(engine: Engine, tmp_path: Path, frame: bytes) -> None:
    content = weights(3 * CHUNK_NBYTES)
    result = write(engine, tmp_path / "file", content, encoding_of(content))
    damaged(tmp_path / "file", stored_of(result).sizes[0], frame)
    ranges = [(0, CHUNK_NBYTES), (CHUNK_NBYTES, CHUNK_NBYTES), (2 * CHUNK_NBYTES, CHUNK_NBYTES)]
    for digests in (result.digests, b""):
        (first, _, third), corrupt = read(engine, tmp_path / "file", result, ranges, digests=digests)
        assert (first, third) == (content[:CHUNK_NBYTES], content[2 * CHUNK_NBYTES :])
        ((index, found),) = corrupt
        assert index == 1
        assert found.startswith("not decodable: ")


def test_frames_that_decode_to_fewer_bytes_are_a_corrupt_chunk(engine: Engine, tmp_path: Path) -> None:
    content = weights(CHUNK_NBYTES)
    (tmp_path / "file").write_bytes(zstandard.compress(content[:-1]))
    result = replace(
        engine.write(str(tmp_path / "raw"), extents_of(content), durable=False).wait(),
        stored=StoredChunks(sizes=array("Q", [(tmp_path / "file").stat().st_size]), groups=b""),
    )
    _, corrupt = read(engine, tmp_path / "file", result, [(0, len(content))])
    assert [(index, found[:15]) for index, found in corrupt] == [(0, "not decodable: ")]
    # The same frame of all bytes is as good as our own.
    (tmp_path / "file").write_bytes(zstandard.compress(content))
    result = replace(result, stored=StoredChunks(sizes=array("Q", [(tmp_path / "file").stat().st_size]), groups=b""))
    assert read_all(engine, tmp_path / "file", result) == content


def test_changed_bytes_behind_compression_are_found_by_digest(engine: Engine, tmp_path: Path) -> None:
    content = noise(2 * CHUNK_NBYTES)
    result = write(engine, tmp_path / "file", content, Encoding(level=1))
    damaged(tmp_path / "file", stored_of(result).sizes[0] + 5000, b"\0\0\0\0\0\0")
    verified = engine.verify(
        str(tmp_path / "file"), file_nbytes=len(content), digests=result.digests, stored=result.stored
    ).wait()
    (chunk,) = verified.corrupt
    assert chunk.index == 1
    assert chunk.expected == result.digests[16:].hex()
    assert len(bytes.fromhex(chunk.found)) == 16


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        pytest.param([100], b"", id="too few chunks"),
        pytest.param([100, 100, 100], b"", id="too many chunks"),
        pytest.param([0, 100], b"", id="an empty chunk"),
        pytest.param([100, 5000], b"", id="more than the chunk can need"),
        pytest.param([2**64 - 1, 100], b"", id="sizes that wrap around"),
        pytest.param([100, 100], b"\2", id="too few filters"),
        pytest.param([100, 100], b"\2\3", id="no such filter"),
    ],
)
def test_a_chunk_table_that_does_not_fit_is_refused(
    engine: Engine, tmp_path: Path, sizes: list[int], groups: bytes
) -> None:
    (tmp_path / "file").write_bytes(bytes(200))
    stored = StoredChunks(sizes=array("Q", sizes), groups=groups)
    with pytest.raises(ValueError, match=r"chunk|filter|items"):
        engine.verify(str(tmp_path / "file"), file_nbytes=CHUNK_NBYTES + 10, digests=bytes(32), stored=stored)


def test_a_compressed_file_of_another_length_is_an_input_output_error(engine: Engine, tmp_path: Path) -> None:
    content = weights(10_000)
    result = write(engine, tmp_path / "file", content, encoding_of(content))
    with (tmp_path / "file").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is what counts
        engine.verify(
            str(tmp_path / "file"), file_nbytes=len(content), digests=result.digests, stored=result.stored
        ).wait()
    assert caught.value.errno == errno.EIO
    assert caught.value.filename == str(tmp_path / "file")


@pytest.mark.parametrize(
    "encoding",
    [Encoding(level=23), Encoding(level=-51), Encoding(level=1, groups=b"\2\2"), Encoding(level=1, groups=b"\7")],
    ids=["level too high", "level too low", "too many filters", "no such filter"],
)
def test_an_encoding_that_makes_no_sense_is_refused_before_there_is_a_file(
    engine: Engine, tmp_path: Path, encoding: Encoding
) -> None:
    with pytest.raises(ValueError, match=r"level|filter|items"):
        engine.write(str(tmp_path / "file"), extents_of(b"some bytes"), encoding=encoding)
    assert not (tmp_path / "file").exists()


def test_progress_counts_raw_bytes(engine: Engine, tmp_path: Path) -> None:
    content = bytes(3 * CHUNK_NBYTES + 1)
    ticket = engine.write(str(tmp_path / "file"), extents_of(content), durable=False, encoding=Encoding(level=1))
    ticket.wait()
    assert ticket.progress() == (len(content), len(content))


def test_an_adaptive_write_says_what_it_found_out(tmp_path: Path) -> None:
    engine = get_engine("native")
    content = weights(14 * CHUNK_NBYTES)
    before = engine.stats()["encoding"]
    result = write(engine, tmp_path / "file", content, replace(encoding_of(content), adaptive=True))
    assert read_all(engine, tmp_path / "file", result) == content
    after = engine.stats()["encoding"]
    sorts = ("compressed_nbytes", "left_nbytes")
    assert sum(after[key] - before[key] for key in sorts) == len(content)
    assert after["trial"]["ratio"] < 0.7
    assert after["trial"]["pays"] in (True, False)
    assert after["trial"]["write_nbytes_per_s"] > 0

"""What both engines do, and that they do the same."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import resource
import stat
import threading
import zlib
from array import array
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sucrose.engine import CHUNK_NBYTES, Extents, Strides, get_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sucrose.engine import Engine

ENGINES = ["reference", "native"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return get_engine(request.param)


def bytes_extents(*pieces: bytes) -> Extents:
    extents = Extents()
    for piece in pieces:
        extents.append_bytes(piece)
    return extents


def buffer_extents(*buffers: bytearray) -> Extents:
    extents = Extents(keep_alive=list(buffers))
    for buffer in buffers:
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0
        extents.append(address, len(buffer))
    return extents


def tensor_extents(*tensors: torch.Tensor) -> Extents:
    extents = Extents(keep_alive=list(tensors))
    for index, tensor in enumerate(tensors):
        itemsize = tensor.element_size()
        extents.append(tensor.data_ptr(), tensor.numel() * itemsize)
        if not tensor.is_contiguous():
            strides = tuple(stride * itemsize for stride in tensor.stride())
            layout = Strides(extent=index, shape=tuple(tensor.shape), strides=strides, itemsize=itemsize)
            extents.strided.append(layout)
    return extents


def raw_bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def random_bytes(nbytes: int, seed: int = 0) -> bytes:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (nbytes,), dtype=torch.uint8, generator=generator).numpy().tobytes()


def digests_of(content: bytes) -> bytes:
    chunks = range(0, len(content), CHUNK_NBYTES)
    return b"".join(xxhash.xxh3_128_digest(content[at : at + CHUNK_NBYTES]) for at in chunks)


@contextmanager
def file_size_limit(nbytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


SIZES = [1, 4095, 4096, 4097, CHUNK_NBYTES - 1, CHUNK_NBYTES, CHUNK_NBYTES + 1, 2 * CHUNK_NBYTES + 4099]


@pytest.mark.parametrize("nbytes", SIZES)
@pytest.mark.parametrize("durable", [True, False])
def test_a_written_file_holds_the_bytes_and_has_one_digest_per_chunk(
    engine: Engine, tmp_path: Path, nbytes: int, durable: bool
) -> None:
    content = random_bytes(nbytes)
    result = engine.write(str(tmp_path / "f"), bytes_extents(content), durable=durable).wait()
    assert (tmp_path / "f").read_bytes() == content
    assert result.nbytes == nbytes
    assert result.digests == digests_of(content)


def test_extents_of_any_size_and_alignment_follow_one_another(engine: Engine, tmp_path: Path) -> None:
    memory = random_bytes(6 * CHUNK_NBYTES)
    cuts = [0, 0, 1, 8, 8, 500, 4096, 70_001, CHUNK_NBYTES + 3, 5 * CHUNK_NBYTES - 1, len(memory) - 9]
    base = bytes_extents(memory)
    extents = Extents(keep_alive=base.keep_alive)
    for begin, end in itertools.pairwise(cuts):
        extents.append(base.addresses[0] + begin, end - begin)
    result = engine.write(str(tmp_path / "f"), extents).wait()
    assert (tmp_path / "f").read_bytes() == memory[: cuts[-1]]
    assert result.digests == digests_of(memory[: cuts[-1]])


def test_without_digests_none_are_returned(engine: Engine, tmp_path: Path) -> None:
    assert engine.write(str(tmp_path / "f"), bytes_extents(b"abc"), digest=False).wait().digests == b""


@pytest.mark.parametrize("pieces", [(), (b"",), (b"", b"")])
def test_an_empty_file_can_be_written_read_and_verified(
    engine: Engine, tmp_path: Path, pieces: tuple[bytes, ...]
) -> None:
    path = str(tmp_path / "f")
    assert engine.write(path, bytes_extents(*pieces)).wait().digests == b""
    assert os.path.getsize(path) == 0
    nothing = engine.read(path, array("Q", [0]), bytes_extents(b""), file_nbytes=0).wait()
    assert nothing.corrupt == []
    assert engine.verify(path, file_nbytes=0, digests=b"").wait().corrupt == []


def test_a_file_gets_the_permissions_that_the_umask_leaves(engine: Engine, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        engine.write(str(tmp_path / "f"), bytes_extents(b"abc")).wait()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_an_existing_file_is_left_alone(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"before")
    with pytest.raises(FileExistsError) as raised:
        engine.write(str(path), bytes_extents(b"after")).wait()
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"before"


def test_a_symbolic_link_is_not_followed_when_a_file_is_created(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        engine.write(str(tmp_path / "link"), bytes_extents(b"abc")).wait()
    assert not (tmp_path / "elsewhere").exists()


def test_writing_into_a_missing_folder_names_the_path(engine: Engine, tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "f")
    with pytest.raises(FileNotFoundError) as raised:
        engine.write(path, bytes_extents(b"abc")).wait()
    assert raised.value.filename == path


@pytest.mark.parametrize("nbytes", [300_000, 9 * CHUNK_NBYTES])
def test_a_write_that_the_system_refuses_keeps_its_errno_and_path(engine: Engine, tmp_path: Path, nbytes: int) -> None:
    path = str(tmp_path / "f")
    with file_size_limit(100_000), pytest.raises(OSError) as raised:  # noqa: PT011 - errno is checked
        engine.write(path, bytes_extents(random_bytes(nbytes))).wait()
    assert raised.value.errno == errno.EFBIG
    assert raised.value.filename == path


def test_progress_ends_at_the_whole_and_cancelling_then_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    ticket = engine.write(str(tmp_path / "f"), bytes_extents(b"abc", b"defg"))
    ticket.wait()
    assert ticket.progress() == (7, 7)
    ticket.cancel()
    assert ticket.wait(timeout_s=60).nbytes == 7
    assert (tmp_path / "f").read_bytes() == b"abcdefg"


STRIDED = {
    "transposed": lambda t: t.t(),
    "columns": lambda t: t[:, 3:40],
    "every third row": lambda t: t[::3],
    "every second column": lambda t: t[:, ::2],
    "one column": lambda t: t[:, 5],
    "expanded": lambda t: t[4:5].expand(30, -1),
    "permuted": lambda t: t.reshape(20, 5, 90).permute(2, 0, 1),
    "one element": lambda t: t[7:8, 9:10],
    "empty": lambda t: t[:, 3:3].t(),
}
DTYPES = [torch.uint8, torch.int16, torch.float32, torch.float64, torch.complex128]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("view", STRIDED.values(), ids=STRIDED)
def test_strided_memory_is_written_in_row_major_order(engine: Engine, tmp_path: Path, view, dtype) -> None:
    tensor = view(torch.arange(9000).reshape(100, 90).to(dtype))
    result = engine.write(str(tmp_path / "f"), tensor_extents(torch.ones(3), tensor, torch.ones(1))).wait()
    expected = raw_bytes(torch.ones(3)) + raw_bytes(tensor) + raw_bytes(torch.ones(1))
    assert (tmp_path / "f").read_bytes() == expected
    assert result.digests == digests_of(expected)


def test_backward_strides_are_written_in_row_major_order(engine: Engine, tmp_path: Path) -> None:
    memory = bytearray(range(12))
    extents = buffer_extents(memory)
    extents.addresses[0] += 11
    extents.strided.append(Strides(extent=0, shape=(12,), strides=(-1,), itemsize=1))
    engine.write(str(tmp_path / "f"), extents).wait()
    assert (tmp_path / "f").read_bytes() == bytes(range(11, -1, -1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [name for name in STRIDED if name != "expanded"])
def test_strided_memory_is_filled_and_the_gaps_stay(engine: Engine, tmp_path: Path, name: str, dtype) -> None:
    base = torch.zeros(100, 90, dtype=dtype)
    target = STRIDED[name](base)
    values = torch.arange(1, target.numel() + 1).reshape(target.shape).to(dtype)
    content = b"head" + raw_bytes(values)
    (tmp_path / "f").write_bytes(content)
    offsets = array("Q", [4])
    result = engine.read(
        str(tmp_path / "f"), offsets, tensor_extents(target), file_nbytes=len(content), digests=digests_of(content)
    ).wait()
    expected = torch.zeros(100, 90, dtype=dtype)
    STRIDED[name](expected).copy_(values)
    assert result.corrupt == []
    assert torch.equal(base, expected)


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("fresh", [True, False])
def test_ranges_are_read_into_their_destinations_and_nothing_else_is_touched(
    engine: Engine, tmp_path: Path, checked: bool, fresh: bool
) -> None:
    content = random_bytes(3 * CHUNK_NBYTES + 777)
    (tmp_path / "f").write_bytes(content)
    ranges = [(3, 10), (13, 0), (4096, 8192), (CHUNK_NBYTES - 5, 10), (2 * CHUNK_NBYTES, CHUNK_NBYTES + 777)]
    buffers = [bytearray(b"\xee" * (nbytes + 16)) for _, nbytes in ranges]
    destinations = buffer_extents(*buffers)
    for index, (_, nbytes) in enumerate(ranges):
        destinations.addresses[index] += 8
        destinations.nbytes[index] = nbytes
    result = engine.read(
        str(tmp_path / "f"),
        array("Q", [offset for offset, _ in ranges]),
        destinations,
        file_nbytes=len(content),
        digests=digests_of(content) if checked else b"",
        fresh=fresh,
    ).wait()
    assert result.corrupt == []
    for (offset, nbytes), buffer in zip(ranges, buffers, strict=True):
        assert buffer == b"\xee" * 8 + content[offset : offset + nbytes] + b"\xee" * 8


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_length_is_an_input_output_error(engine: Engine, tmp_path: Path, change: int) -> None:
    path = str(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"abcdef")
    destination = bytearray(2)
    for digests in (b"", digests_of(b"abcdef")):
        with pytest.raises(OSError) as raised:  # noqa: PT011 - errno is checked
            engine.read(
                path, array("Q", [0]), buffer_extents(destination), file_nbytes=6 + change, digests=digests
            ).wait()
        assert raised.value.errno == errno.EIO
        assert raised.value.filename == path


def test_reading_a_missing_file_names_it(engine: Engine, tmp_path: Path) -> None:
    path = str(tmp_path / "missing")
    with pytest.raises(FileNotFoundError) as raised:
        engine.read(path, array("Q", [0]), buffer_extents(bytearray(1)), file_nbytes=1).wait()
    assert raised.value.filename == path
    with pytest.raises(FileNotFoundError):
        engine.verify(path, file_nbytes=1, digests=bytes(16)).wait()


@pytest.mark.parametrize("flipped", [0, CHUNK_NBYTES - 1, CHUNK_NBYTES, 2 * CHUNK_NBYTES + 99])
def test_a_flipped_bit_is_reported_with_its_chunk(engine: Engine, tmp_path: Path, flipped: int) -> None:
    content = bytearray(random_bytes(2 * CHUNK_NBYTES + 100))
    digests = digests_of(bytes(content))
    content[flipped] ^= 0x10
    (tmp_path / "f").write_bytes(content)
    index = flipped // CHUNK_NBYTES
    found = digests_of(bytes(content))
    whole = engine.verify(str(tmp_path / "f"), file_nbytes=len(content), digests=digests).wait()
    assert [(c.index, c.expected, c.found) for c in whole.corrupt] == [
        (index, digests[16 * index : 16 * index + 16].hex(), found[16 * index : 16 * index + 16].hex())
    ]
    # Reading next to the damage finds it too: the chunk is checked whole.
    beside = array("Q", [index * CHUNK_NBYTES + 50])
    part = engine.read(
        str(tmp_path / "f"), beside, buffer_extents(bytearray(20)), file_nbytes=len(content), digests=digests
    ).wait()
    assert [c.index for c in part.corrupt] == [index]


def test_damage_in_chunks_that_are_not_read_is_not_reported(engine: Engine, tmp_path: Path) -> None:
    content = bytearray(random_bytes(3 * CHUNK_NBYTES))
    digests = digests_of(bytes(content))
    content[-1] ^= 1
    (tmp_path / "f").write_bytes(content)
    destination = bytearray(100)
    result = engine.read(
        str(tmp_path / "f"), array("Q", [CHUNK_NBYTES - 50]), buffer_extents(destination),
        file_nbytes=len(content), digests=digests,
    ).wait()  # fmt: skip
    assert result.corrupt == []
    assert destination == content[CHUNK_NBYTES - 50 : CHUNK_NBYTES + 50]


@pytest.mark.parametrize("offsets", [[5, 0], [0, 3], [0, 97]])
def test_ranges_that_overlap_descend_or_leave_the_file_are_refused(
    engine: Engine, tmp_path: Path, offsets: list[int]
) -> None:
    (tmp_path / "f").write_bytes(bytes(100))
    destinations = buffer_extents(bytearray(4), bytearray(4))
    with pytest.raises((ValueError, OSError)):
        engine.read(str(tmp_path / "f"), array("Q", offsets), destinations, file_nbytes=100).wait()


def test_digests_and_checksums_are_those_of_xxhash_and_zlib(engine: Engine) -> None:
    pieces = [b"", b"a", random_bytes(1000), random_bytes(2 * CHUNK_NBYTES + 1)]
    assert [engine.digest(piece) for piece in pieces] == [xxhash.xxh3_128_digest(piece) for piece in pieces]
    assert engine.crc32(bytes_extents(*pieces)) == [zlib.crc32(piece) for piece in pieces]
    assert engine.crc32(Extents()) == []


@pytest.mark.parametrize("checked", [True, False])
def test_a_read_tells_the_checksum_of_what_each_destination_received(
    engine: Engine, tmp_path: Path, checked: bool
) -> None:
    data = os.urandom(2 * CHUNK_NBYTES + 1000)
    path = tmp_path / "file"
    digests = engine.write(str(path), bytes_extents(data)).wait().digests
    ranges = [(0, 10), (10, 0), (100, CHUNK_NBYTES), (CHUNK_NBYTES + 100, 7), (CHUNK_NBYTES + 200, CHUNK_NBYTES + 800)]
    buffers = [bytearray(nbytes) for _, nbytes in ranges]
    result = engine.read(
        str(path),
        array("Q", [offset for offset, _ in ranges]),
        buffer_extents(*buffers),
        file_nbytes=len(data),
        digests=digests if checked else b"",
        crc32=True,
    ).wait()
    assert list(result.crc32s) == [zlib.crc32(data[offset : offset + nbytes]) for offset, nbytes in ranges]
    assert result.nbytes == sum(nbytes for _, nbytes in ranges)


def test_sync_takes_files_and_folders_and_names_what_is_missing(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    engine.sync([str(tmp_path / "f"), str(tmp_path)])
    engine.sync([])
    with pytest.raises(FileNotFoundError) as raised:
        engine.sync([str(tmp_path), str(tmp_path / "missing")])
    assert raised.value.filename == str(tmp_path / "missing")


def test_threads_may_share_an_engine(engine: Engine, tmp_path: Path) -> None:
    contents = [random_bytes(300_000 + seed, seed) for seed in range(8)]
    outcomes: list[bytes] = [b""] * 8

    def work(index: int) -> None:
        path = str(tmp_path / str(index))
        content = contents[index]
        digests = engine.write(path, bytes_extents(content)).wait().digests
        destination = bytearray(len(content))
        destinations = buffer_extents(destination)
        engine.read(path, array("Q", [0]), destinations, file_nbytes=len(content), digests=digests).wait()
        outcomes[index] = bytes(destination)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == contents


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 9), max_size=4))
    tensor = torch.arange(10_000).to(dtype)[: torch.Size(shape).numel()].reshape(shape)
    tensor = tensor.permute(draw(st.permutations(range(len(shape)))))
    for dim in range(tensor.dim()):
        step = draw(st.integers(1, 3))
        tensor = tensor[(slice(None),) * dim + (slice(None, None, step),)]
    return tensor


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(states=st.lists(tensors(), max_size=6))
def test_any_tensors_come_back(tmp_path_factory: pytest.TempPathFactory, name: str, states) -> None:
    engine = get_engine(name)
    path = str(tmp_path_factory.mktemp("any") / "f")
    result = engine.write(path, tensor_extents(*states)).wait()
    back = [torch.zeros(tensor.shape, dtype=tensor.dtype) for tensor in states]
    offsets = array("Q")
    offset = 0
    for tensor in states:
        offsets.append(offset)
        offset += tensor.nbytes
    assert offset == result.nbytes
    read = engine.read(path, offsets, tensor_extents(*back), file_nbytes=offset, digests=result.digests).wait()
    assert read.corrupt == []
    assert all(torch.equal(a, b) for a, b in zip(states, back, strict=True))

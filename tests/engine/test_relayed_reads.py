"""Reads whose bytes Python brings: in any order, checked and decoded as from a file, and with an end in every case."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import threading
import zlib
from typing import TYPE_CHECKING

import pytest
import torch
from carriers import NAME, destinations_in, fill, noise, offsets_of, received, requests_of, serve, sources_of, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sucrose.engine import CHUNK_NBYTES, Encoding, Extents, Strides, get_engine, make_engine
from sucrose.options import Options

if TYPE_CHECKING:
    from pathlib import Path

    from sucrose.engine import Engine, RelayedReadTicket, Request, WriteResult

ENGINES = ["reference", "native"]
PAIRS = [(writer, reader) for writer in ENGINES for reader in ENGINES]
SIZES = [0, 1, 4097, CHUNK_NBYTES, CHUNK_NBYTES + 1, 3 * CHUNK_NBYTES + 4099]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return get_engine(request.param)


def relayed(engine: Engine, content: bytes, *, encoded: bool) -> tuple[bytes, WriteResult]:
    """The content as it is stored."""
    groups = b"\x02" * -(-len(content) // CHUNK_NBYTES)
    encoding = Encoding(level=0, groups=groups) if encoded else None
    return received(engine.write_relayed(NAME, sources_of(content), encoding=encoding))


@pytest.mark.parametrize("encoded", [False, True], ids=["as it is", "encoded"])
@pytest.mark.parametrize("content_of", [weights, noise], ids=["weights", "noise"])
@pytest.mark.parametrize("nbytes", SIZES)
@pytest.mark.parametrize(("writer", "reader"), PAIRS)
def test_what_was_carried_away_comes_back(writer: str, reader: str, nbytes: int, content_of, encoded: bool) -> None:
    content = content_of(nbytes)
    stored, result = relayed(get_engine(writer), content, encoded=encoded)
    cut = nbytes // 3
    buffers = [bytearray(cut), bytearray(nbytes - cut)]
    engine = get_engine(reader)
    ticket = engine.read_relayed(
        NAME,
        offsets_of(0, cut),
        destinations_in(*buffers),
        file_nbytes=nbytes,
        digests=result.digests,
        stored=result.stored,
        crc32=True,
    )
    serve(ticket, stored)
    outcome = ticket.wait(timeout_s=60)
    assert b"".join(buffers) == content
    assert (outcome.nbytes, list(outcome.corrupt)) == (nbytes, [])
    assert list(outcome.crc32s) == [zlib.crc32(buffer) for buffer in buffers]
    verified = engine.verify_relayed(NAME, file_nbytes=nbytes, digests=result.digests, stored=result.stored)
    serve(verified, stored)
    assert verified.wait(timeout_s=60).nbytes == nbytes
    assert list(verified.wait().corrupt) == []


def test_only_what_is_wanted_is_requested(engine: Engine) -> None:
    content = noise(9 * CHUNK_NBYTES)
    ranges = [(100, 50), (CHUNK_NBYTES - 10, 30), (7 * CHUNK_NBYTES + 5, CHUNK_NBYTES)]
    buffers = [bytearray(nbytes) for _, nbytes in ranges]
    ticket = engine.read_relayed(
        NAME, offsets_of(*(offset for offset, _ in ranges)), destinations_in(*buffers), file_nbytes=len(content)
    )
    asked = []
    for request in requests_of(ticket):
        asked.append((request.offset, request.nbytes))
        fill(request, content)
        request.complete()
    ticket.wait(timeout_s=60)
    assert sorted(asked) == [
        (100, CHUNK_NBYTES - 100),
        (CHUNK_NBYTES, 20),
        (7 * CHUNK_NBYTES + 5, CHUNK_NBYTES - 5),
        (8 * CHUNK_NBYTES, 5),
    ]
    assert [bytes(buffer) for buffer in buffers] == [content[at : at + nbytes] for at, nbytes in ranges]


def test_chunks_are_requested_whole_where_they_are_to_be_checked(engine: Engine) -> None:
    content = noise(3 * CHUNK_NBYTES)
    _, result = relayed(engine, content, encoded=False)
    buffer = bytearray(10)
    ticket = engine.read_relayed(
        NAME, offsets_of(CHUNK_NBYTES + 7), destinations_in(buffer), file_nbytes=len(content), digests=result.digests
    )
    (request,) = requests_of(ticket)
    assert (request.offset, request.nbytes) == (CHUNK_NBYTES, CHUNK_NBYTES)
    fill(request, content)
    request.complete()
    assert list(ticket.wait(timeout_s=60).corrupt) == []
    assert buffer == content[CHUNK_NBYTES + 7 : CHUNK_NBYTES + 17]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), nbytes=st.integers(1, 6 * CHUNK_NBYTES), encoded=st.booleans())
def test_requests_may_be_completed_in_any_order(
    engine: Engine, data: st.DataObject, nbytes: int, encoded: bool
) -> None:
    content = (weights if nbytes % 2 else noise)(nbytes)
    stored, result = relayed(engine, content, encoded=encoded)
    cuts = sorted({0, nbytes, *data.draw(st.lists(st.integers(0, nbytes), max_size=5))})
    buffers = [bytearray(end - begin) for begin, end in itertools.pairwise(cuts)]
    ticket = engine.read_relayed(
        NAME,
        offsets_of(*cuts[:-1]),
        destinations_in(*buffers),
        file_nbytes=nbytes,
        digests=result.digests if data.draw(st.booleans()) else b"",
        stored=result.stored,
        max_inflight_nbytes=3 * CHUNK_NBYTES,
    )
    out: list[Request] = []
    at_end = False
    while out or not at_end:
        if at_end or len(out) == 3 or (out and data.draw(st.booleans())):
            out.pop(data.draw(st.integers(0, len(out) - 1))).complete()
            continue
        request = ticket.next_request(timeout_s=60)
        at_end = request is None
        if request is not None:
            fill(request, stored)
            out.append(request)
    assert list(ticket.wait(timeout_s=60).corrupt) == []
    assert b"".join(buffers) == content


def test_strided_memory_is_filled_in_row_major_order(engine: Engine) -> None:
    content = noise(4 * 1500 * 2000 + 3)
    tensor = torch.zeros(1500, 2000, dtype=torch.int32)
    destinations = Extents(keep_alive=[tensor])
    destinations.append(tensor.data_ptr(), tensor.numel() * 4)
    destinations.strided.append(Strides(extent=0, shape=(2000, 1500), strides=(4, 8000), itemsize=4))
    ticket = engine.read_relayed(NAME, offsets_of(3), destinations, file_nbytes=len(content))
    serve(ticket, content)
    ticket.wait(timeout_s=60)
    assert tensor.t().contiguous().numpy().tobytes() == content[3:]


def test_no_more_is_requested_than_was_allowed_until_something_is_there(engine: Engine) -> None:
    content = noise(5 * CHUNK_NBYTES)
    buffer = bytearray(len(content))
    ticket = engine.read_relayed(
        NAME,
        offsets_of(0),
        destinations_in(buffer),
        file_nbytes=len(content),
        max_inflight_nbytes=2 * CHUNK_NBYTES,
    )
    first, second = ticket.next_request(timeout_s=60), ticket.next_request(timeout_s=60)
    with pytest.raises(TimeoutError):
        ticket.next_request(timeout_s=0.2)
    assert second is not None
    fill(second, content)
    second.complete()
    third = ticket.next_request(timeout_s=60)
    assert third is not None
    assert third.offset == 2 * CHUNK_NBYTES
    for request in (first, third):
        assert request is not None
        fill(request, content)
        request.complete()
        request.complete()  # once more changes nothing
        request.fail(errno.EIO)
    serve(ticket, content)
    assert ticket.wait(timeout_s=60).nbytes == len(content)
    assert buffer == content


@pytest.mark.parametrize("encoded", [False, True], ids=["as it is", "encoded"])
def test_damaged_bytes_are_reported_with_their_chunk_and_the_others_are_read(engine: Engine, encoded: bool) -> None:
    content = noise(4 * CHUNK_NBYTES)
    stored, result = relayed(engine, content, encoded=encoded)
    damaged = bytearray(stored)
    damaged[len(stored) // 2 + 1000] ^= 1  # in the third chunk
    buffer = bytearray(len(content))
    ticket = engine.read_relayed(
        NAME,
        offsets_of(0),
        destinations_in(buffer),
        file_nbytes=len(content),
        digests=result.digests,
        stored=result.stored,
    )
    serve(ticket, bytes(damaged))
    (corrupt,) = ticket.wait(timeout_s=60).corrupt
    assert corrupt.index == 2
    assert corrupt.expected == result.digests[32:48].hex()
    assert buffer[: 2 * CHUNK_NBYTES] == content[: 2 * CHUNK_NBYTES]
    assert buffer[3 * CHUNK_NBYTES :] == content[3 * CHUNK_NBYTES :]


def test_bytes_that_are_no_frames_are_a_corrupt_chunk(engine: Engine) -> None:
    content = weights(2 * CHUNK_NBYTES)
    stored, result = relayed(engine, content, encoded=True)
    assert result.stored is not None
    second = result.stored.sizes[0]
    ticket = engine.verify_relayed(NAME, file_nbytes=len(content), digests=result.digests, stored=result.stored)
    serve(ticket, stored[:second] + bytes(len(stored) - second))
    (corrupt,) = ticket.wait(timeout_s=60).corrupt
    assert corrupt.index == 1
    assert corrupt.found.startswith("not decodable")


def read_all(engine: Engine, nbytes: int, **options: int) -> tuple[bytearray, RelayedReadTicket]:
    buffer = bytearray(nbytes)
    return buffer, engine.read_relayed(NAME, offsets_of(0), destinations_in(buffer), file_nbytes=nbytes, **options)


@pytest.mark.parametrize("by", ["request", "ticket"])
def test_a_failing_carrier_ends_the_read_for_everybody(engine: Engine, by: str) -> None:
    _, ticket = read_all(engine, 5 * CHUNK_NBYTES, max_inflight_nbytes=3 * CHUNK_NBYTES)
    held = ticket.next_request(timeout_s=60)
    failing = ticket.next_request(timeout_s=60)
    assert failing is not None
    if by == "request":
        failing.fail(errno.ENOENT)
    else:
        ticket.fail(errno.ENOENT)
    for call in (ticket.wait, ticket.next_request):
        with pytest.raises(FileNotFoundError) as raised:
            call(timeout_s=60)
        assert raised.value.filename == NAME
    assert held is not None
    held.data[:] = bytes(held.nbytes)
    held.complete()
    with pytest.raises(FileNotFoundError):
        ticket.wait()


def test_what_comes_after_a_read_was_cancelled_is_not_written_into_the_destinations(engine: Engine) -> None:
    buffer, ticket = read_all(engine, 2 * CHUNK_NBYTES)
    request = ticket.next_request(timeout_s=60)
    assert request is not None
    ticket.cancel()
    with pytest.raises(InterruptedError):
        ticket.wait(timeout_s=60)
    request.data[:] = b"\xee" * request.nbytes
    request.complete()
    assert not any(buffer)


def test_a_request_that_is_lost_cancels_the_read(engine: Engine) -> None:
    _, ticket = read_all(engine, 2 * CHUNK_NBYTES)
    assert ticket.next_request(timeout_s=60) is not None  # and nobody keeps it
    gc.collect()
    with pytest.raises(InterruptedError):
        ticket.wait(timeout_s=60)


def test_a_request_counts_when_the_last_view_of_it_is_gone() -> None:
    content = noise(CHUNK_NBYTES)
    buffer, ticket = read_all(get_engine("native"), len(content))
    request = ticket.next_request(timeout_s=60)
    assert request is not None
    late = request.data[1000:2000]
    fill(request, content)
    request.complete()
    with pytest.raises(TimeoutError):
        ticket.wait(timeout_s=0.2)
    late[:] = b"\xee" * 1000
    del late
    ticket.wait(timeout_s=60)
    assert buffer == content[:1000] + b"\xee" * 1000 + content[2000:]


def test_all_slots_come_back_from_reads_that_failed_were_cancelled_or_forgotten(tmp_path: Path) -> None:
    engine = make_engine(Options(engine="native", ring_slots=3))
    content = noise(7 * CHUNK_NBYTES)
    for round_ in range(6):
        _, ticket = read_all(engine, len(content), max_inflight_nbytes=7 * CHUNK_NBYTES)
        held = [ticket.next_request(timeout_s=60), ticket.next_request(timeout_s=60)]
        if round_ < 2:
            ticket.fail(errno.EIO)
        elif round_ < 4:
            ticket.cancel()
        del ticket, held
        gc.collect()
    _, ticket = read_all(engine, len(content), max_inflight_nbytes=7 * CHUNK_NBYTES)
    requests = [ticket.next_request(timeout_s=60) for _ in range(3)]
    with pytest.raises(TimeoutError):
        ticket.next_request(timeout_s=0.2)
    ticket.cancel()
    del requests
    engine.write(str(tmp_path / "f"), sources_of(content), durable=False).wait(timeout_s=60)
    assert (tmp_path / "f").read_bytes() == content


def test_several_threads_serve_several_reads_beside_files(engine: Engine, tmp_path: Path) -> None:
    content = noise(6 * CHUNK_NBYTES + 99)
    stored, result = relayed(engine, content, encoded=True)
    (tmp_path / "f").write_bytes(content)
    reads = []
    threads = []
    for _ in range(3):
        buffer = bytearray(len(content))
        ticket = engine.read_relayed(
            NAME,
            offsets_of(0),
            destinations_in(buffer),
            file_nbytes=len(content),
            digests=result.digests,
            stored=result.stored,
        )
        reads.append((buffer, ticket))
        threads += [threading.Thread(target=serve, args=(ticket, stored)) for _ in range(2)]
    for thread in threads:
        thread.start()
    from_file = bytearray(len(content))
    engine.read(str(tmp_path / "f"), offsets_of(0), destinations_in(from_file), file_nbytes=len(content)).wait()
    for buffer, ticket in reads:
        assert list(ticket.wait(timeout_s=60).corrupt) == []
        assert buffer == content
    for thread in threads:
        thread.join()
    assert from_file == content


def test_ctrl_c_ends_a_wait_for_a_request_and_the_read_with_it(engine: Engine) -> None:
    _, ticket = read_all(engine, 3 * CHUNK_NBYTES, max_inflight_nbytes=CHUNK_NBYTES)
    request = ticket.next_request(timeout_s=60)
    interrupter = threading.Timer(0.3, os.kill, (os.getpid(), 2))
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        ticket.next_request(timeout_s=60)
    interrupter.join()
    ticket.cancel()
    with pytest.raises(InterruptedError):
        ticket.wait(timeout_s=60)
    assert request is not None
    request.complete()

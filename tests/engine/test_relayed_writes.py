"""Writes whose blocks Python carries: the bytes and digests of a file, in bounded memory, and an end in every case."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest
import torch
from carriers import NAME, Receivers, blocks_of, noise, received, sources_of, weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sucrose.engine import CHUNK_NBYTES, Encoding, Extents, Staging, Strides, get_engine, make_engine
from sucrose.options import Options

if TYPE_CHECKING:
    from pathlib import Path

    from sucrose.engine import Block, Engine, RelayedWriteTicket

ENGINES = ["reference", "native"]
SIZES = [0, 1, 4097, CHUNK_NBYTES - 1, CHUNK_NBYTES, CHUNK_NBYTES + 1, 3 * CHUNK_NBYTES + 4099]
ENCODINGS = {
    "as it is": None,
    "grouped": Encoding(level=0, groups=b"\x02" * 4),
    "level 1": Encoding(level=1),
    "adaptive": Encoding(level=0, adaptive=True),
}
PLENTY = 1 << 30


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return get_engine(request.param)


def fitting(encoding: Encoding | None, nbytes: int) -> Encoding | None:
    if encoding is None or not encoding.groups:
        return encoding
    return Encoding(level=encoding.level, groups=encoding.groups[:1] * -(-nbytes // CHUNK_NBYTES))


@pytest.mark.parametrize("content_of", [weights, noise], ids=["weights", "noise"])
@pytest.mark.parametrize("encoding", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("nbytes", SIZES)
def test_the_blocks_are_the_file_that_a_write_makes(
    engine: Engine, tmp_path: Path, nbytes: int, encoding: Encoding | None, content_of
) -> None:
    content = content_of(nbytes)
    encoding = fitting(encoding, nbytes)
    third = nbytes // 3
    file = engine.write(
        str(tmp_path / "f"), sources_of(content[:third], content[third:]), durable=False, encoding=encoding
    ).wait()
    stored, result = received(
        engine.write_relayed(NAME, sources_of(content[:third], content[third:]), encoding=encoding)
    )
    adaptive = encoding is not None and encoding.adaptive  # what it measures decides where the bytes lie
    assert adaptive or stored == (tmp_path / "f").read_bytes()
    assert adaptive or result == file
    assert (result.nbytes, result.digests) == (file.nbytes, file.digests)
    assert len(stored) == (nbytes if result.stored is None else sum(result.stored.sizes))


@pytest.mark.parametrize("digest_kind", ["xxh3-128", "sha256-128"])
def test_digests_are_of_the_kind_that_is_asked_for(engine: Engine, digest_kind: str) -> None:
    content = noise(5000)
    _, result = received(engine.write_relayed(NAME, sources_of(content), digest_kind=digest_kind))
    assert result.digests == engine.digest(content, digest_kind)
    _, result = received(engine.write_relayed(NAME, sources_of(content), digest=False))
    assert result.digests == b""


def test_strided_memory_comes_in_row_major_order(engine: Engine) -> None:
    tensor = torch.arange(3_000_000, dtype=torch.int32).reshape(1500, 2000).t()
    sources = Extents(keep_alive=[tensor])
    sources.append(tensor.data_ptr(), tensor.numel() * 4)
    sources.strided.append(Strides(extent=0, shape=(2000, 1500), strides=(4, 8000), itemsize=4))
    stored, _ = received(engine.write_relayed(NAME, sources))
    assert stored == tensor.contiguous().numpy().tobytes()


def test_no_more_is_out_than_was_allowed_until_something_is_given_back(engine: Engine) -> None:
    content = noise(6 * CHUNK_NBYTES)
    ticket = engine.write_relayed(NAME, sources_of(content), max_inflight_nbytes=3 * CHUNK_NBYTES)
    out = [ticket.next_block(timeout_s=60) for _ in range(3)]
    with pytest.raises(TimeoutError):
        ticket.next_block(timeout_s=0.2)
    assert ticket.progress() == (0, len(content))
    give_back(out[1])
    fourth = ticket.next_block(timeout_s=60)
    with pytest.raises(TimeoutError):
        ticket.next_block(timeout_s=0.2)
    assert fourth is not None
    assert fourth.data == content[3 * CHUNK_NBYTES : 4 * CHUNK_NBYTES]
    for block in (out[0], out[2], fourth):
        give_back(block)
    for block in blocks_of(ticket):
        give_back(block)
    assert ticket.wait(timeout_s=60).nbytes == len(content)


def give_back(block: Block | None) -> None:
    assert block is not None
    block.release()
    block.release()  # once more changes nothing


def blocks_without_giving_back(ticket: RelayedWriteTicket, count: int) -> list[Block]:
    """As many as can be had without giving back any; fails where that are more or fewer."""
    blocks = []
    for _ in range(count):
        block = ticket.next_block(timeout_s=60)
        assert block is not None
        blocks.append(block)
    with pytest.raises(TimeoutError):
        ticket.next_block(timeout_s=0.2)
    return blocks


def test_the_rings_slots_bound_what_is_out_whatever_is_allowed() -> None:
    engine = make_engine(Options(engine="native", ring_slots=4))
    ticket = engine.write_relayed(NAME, sources_of(noise(9 * CHUNK_NBYTES)), max_inflight_nbytes=PLENTY)
    blocks = blocks_without_giving_back(ticket, 4)
    default = engine.write_relayed(NAME, sources_of(noise(9 * CHUNK_NBYTES)))
    with pytest.raises(TimeoutError):
        default.next_block(timeout_s=0.2)
    for block in blocks:
        block.release()
    ticket.cancel()
    blocks_without_giving_back(default, 2)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), nbytes=st.integers(1, 6 * CHUNK_NBYTES), encoded=st.booleans())
def test_blocks_may_be_given_back_in_any_order(engine: Engine, data: st.DataObject, nbytes: int, encoded: bool) -> None:
    content = (weights if nbytes % 2 else noise)(nbytes)
    encoding = Encoding(level=0) if encoded else None
    ticket = engine.write_relayed(NAME, sources_of(content), encoding=encoding, max_inflight_nbytes=4 * CHUNK_NBYTES)
    out: list[Block] = []
    stored = bytearray()
    at_end = False
    while out or not at_end:
        if at_end or len(out) == 4 or (out and data.draw(st.booleans())):
            out.pop(data.draw(st.integers(0, len(out) - 1))).release()
            continue
        block = ticket.next_block(timeout_s=60)
        at_end = block is None
        if block is not None:
            stored += block.data
            out.append(block)
    result = ticket.wait(timeout_s=60)
    expected, same = received(engine.write_relayed(NAME, sources_of(content), encoding=encoding))
    assert (bytes(stored), result) == (expected, same)


def test_a_block_stays_readable_for_as_long_as_somebody_has_a_view_of_it() -> None:
    engine = make_engine(Options(engine="native", ring_slots=1))
    content = noise(2 * CHUNK_NBYTES)
    ticket = engine.write_relayed(NAME, sources_of(content))
    block = ticket.next_block(timeout_s=60)
    assert block is not None
    part = block.data[100:200]
    block.release()
    with pytest.raises(TimeoutError):
        ticket.next_block(timeout_s=0.2)
    assert part == content[100:200]
    del part
    (last,) = blocks_of(ticket)
    last.release()
    assert ticket.wait(timeout_s=60).nbytes == len(content)


def test_a_failing_carrier_ends_the_write_for_everybody(engine: Engine) -> None:
    ticket = engine.write_relayed(NAME, sources_of(noise(8 * CHUNK_NBYTES)), max_inflight_nbytes=2 * CHUNK_NBYTES)
    block = ticket.next_block(timeout_s=60)
    ticket.fail(errno.ECONNRESET)
    for call in (ticket.next_block, ticket.wait, ticket.wait_safe):
        with pytest.raises(ConnectionResetError) as raised:
            call(timeout_s=60)
        assert raised.value.filename == NAME
    ticket.fail(errno.EIO)  # the first error stays
    ticket.cancel()
    with pytest.raises(ConnectionResetError):
        ticket.wait()
    give_back(block)


def test_a_cancelled_write_wakes_who_waits_for_a_block(engine: Engine) -> None:
    ticket = engine.write_relayed(NAME, sources_of(noise(4 * CHUNK_NBYTES)), max_inflight_nbytes=CHUNK_NBYTES)
    block = ticket.next_block(timeout_s=60)
    receivers = Receivers(ticket)
    ticket.cancel()
    receivers.join()
    assert {type(error) for error in receivers.errors} == {InterruptedError}
    with pytest.raises(InterruptedError):
        ticket.wait(timeout_s=60)
    give_back(block)


def test_all_slots_come_back_from_writes_that_failed_were_cancelled_or_forgotten(tmp_path: Path) -> None:
    engine = make_engine(Options(engine="native", ring_slots=3))
    content = noise(7 * CHUNK_NBYTES)
    for round_ in range(6):
        ticket = engine.write_relayed(
            NAME, sources_of(content), max_inflight_nbytes=PLENTY, encoding=Encoding(level=0) if round_ % 2 else None
        )
        held = [ticket.next_block(timeout_s=60), ticket.next_block(timeout_s=60)]
        if round_ < 2:
            ticket.fail(errno.EIO)
        elif round_ < 4:
            ticket.cancel()
        del ticket, held
        gc.collect()
    ticket = engine.write_relayed(NAME, sources_of(content), max_inflight_nbytes=PLENTY)
    blocks_without_giving_back(ticket, 3)
    ticket.cancel()
    engine.write(str(tmp_path / "f"), sources_of(content), durable=False).wait(timeout_s=60)
    assert (tmp_path / "f").read_bytes() == content


def test_a_slot_is_not_lent_again_while_the_carrier_of_a_cancelled_write_has_it() -> None:
    engine = make_engine(Options(engine="native", ring_slots=2))
    content = noise(3 * CHUNK_NBYTES)
    ticket = engine.write_relayed(NAME, sources_of(content), max_inflight_nbytes=PLENTY)
    block = ticket.next_block(timeout_s=60)
    assert block is not None
    ticket.cancel()
    with pytest.raises(InterruptedError):
        ticket.wait(timeout_s=60)
    stored, _ = received(engine.write_relayed(NAME, sources_of(bytes(3 * CHUNK_NBYTES))))
    assert not any(stored)
    assert block.data == content[:CHUNK_NBYTES]
    block.release()


def test_a_block_that_is_lost_cancels_the_write(engine: Engine) -> None:
    ticket = engine.write_relayed(NAME, sources_of(noise(2 * CHUNK_NBYTES)))
    assert ticket.next_block(timeout_s=60) is not None  # and nobody keeps it
    gc.collect()
    with pytest.raises(InterruptedError):
        ticket.wait(timeout_s=60)


@pytest.mark.parametrize("name", ENGINES)
def test_a_slow_carrier_does_not_keep_files_from_being_written(tmp_path: Path, name: str) -> None:
    engine = make_engine(Options(engine=name, ring_slots=4))
    content = noise(6 * CHUNK_NBYTES)
    ticket = engine.write_relayed(NAME, sources_of(content))
    first = ticket.next_block(timeout_s=60)
    engine.write(str(tmp_path / "f"), sources_of(content), durable=False).wait(timeout_s=60)
    assert (tmp_path / "f").read_bytes() == content
    give_back(first)
    rest = bytearray()
    for block in blocks_of(ticket):
        rest += block.data
        block.release()
    assert ticket.wait(timeout_s=60).nbytes == len(content)
    assert rest == content[CHUNK_NBYTES:]


def test_several_writes_with_several_carriers_each_go_on_beside_files(engine: Engine, tmp_path: Path) -> None:
    contents = [weights(5 * CHUNK_NBYTES + 17 * index) for index in range(4)]
    encodings = [None, Encoding(level=0), None, Encoding(level=1)]
    tickets = [
        engine.write_relayed(NAME, sources_of(content), encoding=encoding)
        for content, encoding in zip(contents, encodings, strict=True)
    ]
    carriers = [Receivers(ticket) for ticket in tickets]
    for index, (content, encoding) in enumerate(zip(contents, encodings, strict=True)):
        file = engine.write(str(tmp_path / str(index)), sources_of(content), durable=False, encoding=encoding)
        assert file.wait(timeout_s=60) == tickets[index].wait(timeout_s=60)
        assert carriers[index].join() == (tmp_path / str(index)).read_bytes()


@pytest.mark.parametrize("encoding", [None, Encoding(level=0)], ids=["as it is", "encoded"])
def test_what_is_changed_after_a_staged_write_is_safe_is_not_sent(engine: Engine, encoding: Encoding | None) -> None:
    buffer = torch.frombuffer(bytearray(weights(5 * CHUNK_NBYTES + 5)), dtype=torch.uint8)
    before = buffer.numpy().tobytes()
    sources = Extents(keep_alive=[buffer])
    sources.append(buffer.data_ptr(), buffer.numel())
    ticket = engine.write_relayed(NAME, sources, staging=Staging(budget_nbytes=PLENTY), encoding=encoding)
    ticket.wait_safe(timeout_s=60)
    ticket.wait_staged(timeout_s=60)
    assert ticket.staged()
    assert ticket.staging() == "host"
    buffer.fill_(7)
    stored, result = received(ticket)
    expected, same = received(engine.write_relayed(NAME, sources_of(before), encoding=encoding))
    assert (stored, result) == (expected, same)


def test_staging_without_the_memory_for_it_is_safe_when_enough_was_sent(engine: Engine) -> None:
    content = noise(4 * CHUNK_NBYTES)
    ticket = engine.write_relayed(NAME, sources_of(content), staging=Staging(budget_nbytes=CHUNK_NBYTES))
    assert ticket.staging() == "blocking"
    assert not ticket.staged()
    with pytest.raises(TimeoutError):
        ticket.wait_safe(timeout_s=0.05)
    receivers = Receivers(ticket)
    ticket.wait_safe(timeout_s=60)
    assert receivers.join() == content
    assert ticket.wait(timeout_s=60).nbytes == len(content)


def test_a_ticket_that_is_dropped_after_staging_stops_the_write() -> None:
    engine = make_engine(Options(engine="native", ring_slots=2))
    content = noise(4 * CHUNK_NBYTES)
    ticket = engine.write_relayed(NAME, sources_of(content), staging=Staging(budget_nbytes=PLENTY))
    ticket.wait_staged(timeout_s=60)
    kept = engine.kept_staging_nbytes()
    del ticket
    gc.collect()
    again = engine.write_relayed(NAME, sources_of(content), staging=Staging(budget_nbytes=PLENTY))
    again.wait_staged(timeout_s=60)
    assert engine.kept_staging_nbytes() == kept
    assert received(again)[0] == content


def test_ctrl_c_ends_a_wait_for_a_block_and_the_write_with_it(engine: Engine) -> None:
    ticket = engine.write_relayed(NAME, sources_of(noise(3 * CHUNK_NBYTES)), max_inflight_nbytes=CHUNK_NBYTES)
    block = ticket.next_block(timeout_s=60)
    interrupter = threading.Timer(0.3, os.kill, (os.getpid(), 2))
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        ticket.next_block(timeout_s=60)
    interrupter.join()
    ticket.cancel()
    with pytest.raises(InterruptedError):
        ticket.wait(timeout_s=60)
    give_back(block)


PROGRAM = """
import os, sys
from sucrose.engine import Extents, get_engine, Staging, CHUNK_NBYTES
engine = get_engine("native")
sources = Extents()
sources.append_bytes(bytes(20 * CHUNK_NBYTES))
staging = Staging(budget_nbytes=1 << 30) if sys.argv[1] == "staged" else None
ticket = engine.write_relayed("s3://bucket/file", sources, staging=staging)
block = ticket.next_block()
if sys.argv[1] == "forked":
    child = os.fork()
    if child == 0:
        from sucrose.errors import ForkError
        try:
            ticket.next_block()
        except ForkError:
            block.release()
            del block, ticket
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    taken = 1
    block.release()
    while (block := ticket.next_block()) is not None:
        taken += 1
        block.release()
    assert (taken, ticket.wait().nbytes) == (20, 20 * CHUNK_NBYTES)
elif sys.argv[1] == "raised":
    raise SystemExit(5)
print("left")
"""


@pytest.mark.parametrize(("how", "status"), [("held", 0), ("staged", 0), ("raised", 5), ("forked", 0)])
def test_a_program_ends_whatever_it_has_left_undone(how: str, status: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(PROGRAM), how],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    assert ended.stderr == ""

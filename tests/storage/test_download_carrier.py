"""Who carries bytes from object stores to the engine: every failure reaches the reader, and no thread stays."""

from __future__ import annotations

import errno
import os
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from carriers import destinations_in, noise, offsets_of
from stored_folders import threads_that_stay

from sucrose.engine import CHUNK_NBYTES, Engine, ReadTicket, get_engine
from sucrose.errors import CorruptionError, StorageError
from sucrose.snapshot.remote import downloads
from sucrose.snapshot.transfers import begin_read, begin_verify
from sucrose.storage.objects import ObjectStorage, StorageOptions
from sucrose.storage.objects.directory import ObjectDirectory
from sucrose.storage.objects.memory import MemoryBackend

NBYTES = 5 * CHUNK_NBYTES + 123
BYTES = noise(NBYTES)


class Store:
    """Objects in memory, with something that happens before each of their parts is read."""

    def __init__(self, **options: Any) -> None:
        self.backend = MemoryBackend()
        self.happens: Callable[[int], object] = lambda _: None
        fetch_into = self.backend.fetch_into

        def fetch(key: str, offset: int, into: memoryview) -> int:
            self.happens(offset)
            return fetch_into(key, offset, into)

        self.backend.fetch_into = fetch  # type: ignore[method-assign]  # of this one object
        self.directory = ObjectDirectory(
            ObjectStorage(self.backend, "memory://bucket", "run", StorageOptions.parse(options))
        )
        self.directory.storage.put("a", BYTES)


@pytest.fixture
def engine(each_engine: str) -> Engine:
    return get_engine()


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert not threads_that_stay()


def begun(store: Store, engine: Engine, into: bytearray, name: str = "a", **options: Any) -> ReadTicket:
    options = {"file_nbytes": len(BYTES), **options}
    return begin_read(store.directory, engine, name, offsets_of(0), destinations_in(into), **options)


def digests(engine: Engine) -> bytes:
    return b"".join(engine.digest(BYTES[at : at + CHUNK_NBYTES]) for at in range(0, NBYTES, CHUNK_NBYTES))


@pytest.mark.parametrize("concurrency", [1, 3, 40])
def test_at_most_so_many_requests_as_the_storage_allows_are_under_way(engine: Engine, concurrency: int) -> None:
    store = Store(concurrency=concurrency)
    lock, now, most = threading.Lock(), 0, 0

    def happens(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= 1

    store.happens = happens
    buffers = [bytearray(NBYTES) for _ in range(4)]
    tickets = [begun(store, engine, buffer, digests=digests(engine)) for buffer in buffers]
    assert [ticket.wait().corrupt for ticket in tickets] == [[]] * 4
    assert buffers == [BYTES] * 4
    assert most <= concurrency


def test_many_small_files_are_read_by_a_few_threads(engine: Engine) -> None:
    store = Store(concurrency=4)
    names = [f"small{number}" for number in range(300)]
    for number, name in enumerate(names):
        store.directory.storage.put(name, bytes([number % 256]) * 100)
    buffers = [bytearray(100) for _ in names]
    counts = []
    store.happens = lambda _: counts.append(sum(thread.name == "sucrose-download" for thread in threading.enumerate()))
    tickets = [begun(store, engine, buffer, name, file_nbytes=100) for name, buffer in zip(names, buffers, strict=True)]
    for ticket in tickets:
        ticket.wait()
    assert buffers == [bytes([number % 256]) * 100 for number in range(300)]
    assert max(counts) <= 4


def test_a_verification_brings_every_byte_and_finds_what_differs(engine: Engine) -> None:
    store = Store()
    ticket = begin_verify(store.directory, engine, "a", file_nbytes=NBYTES, digests=digests(engine))
    assert ticket.wait().corrupt == []
    assert ticket.progress() == (NBYTES, NBYTES)
    changed = bytearray(BYTES)
    changed[CHUNK_NBYTES] ^= 1
    store.directory.storage.put("a", changed)
    ticket = begin_verify(store.directory, engine, "a", file_nbytes=NBYTES, digests=digests(engine))
    assert [chunk.index for chunk in ticket.wait().corrupt] == [1]


def test_only_what_is_wanted_is_fetched_where_nothing_is_checked(engine: Engine) -> None:
    store = Store()
    offsets: list[int] = []
    store.happens = offsets.append
    buffers = [bytearray(10), bytearray(20)]
    places = array("Q", [CHUNK_NBYTES + 5, 3 * CHUNK_NBYTES + 7])
    begin_read(store.directory, engine, "a", places, destinations_in(*buffers), file_nbytes=NBYTES).wait()
    assert sorted(offsets) == list(places)
    assert [bytes(buffer) for buffer in buffers] == [
        BYTES[place : place + len(buffer)] for place, buffer in zip(places, buffers, strict=True)
    ]


def test_the_error_of_the_storage_is_the_error_of_the_read(engine: Engine) -> None:
    store = Store()
    error = StorageError(errno.EACCES, "no", "memory://bucket/run/a", path="memory://bucket/run/a")

    def happens(offset: int) -> None:
        if offset == 2 * CHUNK_NBYTES:
            raise error

    store.happens = happens
    ticket = begun(store, engine, bytearray(NBYTES))
    for _ in range(2):
        with pytest.raises(StorageError) as raised:
            ticket.wait()
        assert raised.value is error


def test_a_file_that_is_too_short_is_told_with_its_url_and_the_place(engine: Engine) -> None:
    store = Store()
    store.directory.storage.put("a", BYTES[: 3 * CHUNK_NBYTES - 10])
    with pytest.raises(CorruptionError) as raised:
        begun(store, engine, bytearray(NBYTES)).wait()
    assert raised.value.path == "memory://bucket/run/a"
    assert raised.value.offset is not None
    assert raised.value.offset >= 3 * CHUNK_NBYTES - 10


def test_other_reads_go_on_when_one_has_failed(engine: Engine) -> None:
    store = Store(concurrency=3)
    store.directory.storage.put("short", BYTES[:100])
    buffer = bytearray(NBYTES)
    failing = begun(store, engine, bytearray(NBYTES), "short")
    sound = begun(store, engine, buffer)
    with pytest.raises(CorruptionError):
        failing.wait()
    sound.wait()
    assert buffer == BYTES


def test_a_failed_read_writes_nothing_into_memory_that_was_given_back(engine: Engine) -> None:
    store = Store()
    late = threading.Event()

    def happens(offset: int) -> None:
        if offset == 0:
            raise StorageError(errno.EIO, "first")
        late.wait(60)

    store.happens = happens
    buffer = bytearray(NBYTES)
    with pytest.raises(StorageError, match="first"):
        begun(store, engine, buffer).wait()
    before = bytes(buffer)
    late.set()
    assert not threads_that_stay()
    assert bytes(buffer) == before


def test_an_error_that_was_got_over_holds_no_memory(engine: Engine) -> None:
    """Or the engine would wait for it for ever: clients keep errors in cycles, until Python collects them."""
    store = Store(backoff_s=0.001)
    kept: list[Exception] = []

    def happens(_: int) -> None:
        if len(kept) < 3:
            error = ConnectionResetError(errno.ECONNRESET, "lost")
            kept.append(error)
            raise error

    store.happens = happens
    buffer = bytearray(NBYTES)
    begun(store, engine, buffer, digests=digests(engine)).wait(timeout_s=60)
    assert buffer == BYTES
    assert all(error.__traceback__ is not None for error in kept)


@pytest.mark.parametrize("how", ["cancelled", "dropped"])
def test_a_read_that_nobody_wants_any_more_gives_up_its_pauses(engine: Engine, how: str) -> None:
    """With the default pauses, six attempts take many seconds."""
    store = Store(backoff_s=100.0, max_backoff_s=100.0)
    has_failed = threading.Event()

    def happens(_: int) -> None:
        has_failed.set()
        raise ConnectionResetError(errno.ECONNRESET, "lost")

    store.happens = happens
    ticket = begun(store, engine, bytearray(NBYTES))
    assert has_failed.wait(60)
    if how == "cancelled":
        ticket.cancel()
        with pytest.raises(InterruptedError):
            ticket.wait()
    else:
        del ticket


def test_a_wait_that_takes_too_long_says_so_and_the_read_goes_on(engine: Engine) -> None:
    store = Store()
    go_on = threading.Event()
    store.happens = lambda _: go_on.wait(60)
    buffer = bytearray(NBYTES)
    ticket = begun(store, engine, buffer)
    with pytest.raises(TimeoutError) as raised:
        ticket.wait(0.01)
    assert raised.value.errno is None
    go_on.set()
    ticket.wait()
    assert buffer == BYTES


def test_without_any_thread_there_is_an_error_and_not_a_hang(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    monkeypatch.setattr(downloads, "start_thread", lambda *_, **__: False)
    with pytest.raises(StorageError) as raised:
        begun(store, engine, bytearray(NBYTES))
    assert raised.value.errno == errno.EAGAIN
    monkeypatch.undo()
    buffer = bytearray(NBYTES)
    begun(store, engine, buffer).wait()
    assert buffer == BYTES


def test_the_memory_that_is_out_keeps_within_what_the_read_was_allowed(engine: Engine) -> None:
    store = Store(concurrency=8)
    lock, now, most = threading.Lock(), 0, 0

    def happens(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    store.happens = happens
    buffer = bytearray(NBYTES)
    begun(store, engine, buffer, max_inflight_nbytes=2 * CHUNK_NBYTES).wait()
    assert buffer == BYTES
    assert most <= 2


def test_a_forked_child_has_no_part_in_the_reads_of_its_parent(engine: Engine) -> None:
    store = Store()
    go_on = threading.Event()
    store.happens = lambda _: go_on.wait(60)
    buffer = bytearray(NBYTES)
    ticket = begun(store, engine, buffer)
    child = os.fork()
    if child == 0:
        os._exit(0 if not downloads._downloads else 1)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    ticket.wait()
    assert buffer == BYTES

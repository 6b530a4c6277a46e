"""Data files on their way from the engine to a store: the bytes, the memory that it takes, and every kind of end."""

from __future__ import annotations

import errno
import gc
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
from carriers import noise, sources_of, weights
from watched_store import Asked, WatchedStore

from sucrose.engine import CHUNK_NBYTES, Encoding, Staging, get_engine
from sucrose.errors import StorageError
from sucrose.snapshot.remote.upload_threads import UploadThreads
from sucrose.snapshot.remote.uploading import UploadTicket
from sucrose.storage.objects import PartLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sucrose.engine import Engine

PART = 1 << 20
ORDERED = PartLimits(is_ordered=True)


@pytest.fixture(params=["reference", "native"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return get_engine(request.param)


class Carrying:
    """Uploads to one store."""

    def __init__(
        self, engine: Engine, limits: PartLimits | None = None, *, concurrency: int = 3, **options: Any
    ) -> None:
        self.engine = engine
        self.store = WatchedStore(limits)
        self.storage = self.store.storage(part_nbytes=PART, concurrency=concurrency, attempts=1, **options)
        self.threads = UploadThreads(concurrency, buffers=concurrency)

    def begin(self, name: str, *pieces: bytes, encoding: Encoding | None = None, staging: Staging | None = None):
        def begin() -> Any:
            return self.engine.write_relayed(name, sources_of(*pieces), encoding=encoding, staging=staging)

        return UploadTicket(
            begin,
            self.storage,
            name,
            nbytes=sum(map(len, pieces)),
            put_nbytes=PART,
            is_encoded=encoding is not None,
            is_staged=staging is not None,
            threads=self.threads,
            known=deque(),
        )


@pytest.fixture
def carrying(engine: Engine) -> Iterator[Carrying]:
    made = Carrying(engine)
    yield made
    made.threads.close()


def assert_no_thread_is_left() -> None:
    deadline = time.monotonic() + 60
    while left := [
        thread.name for thread in threading.enumerate() if thread.name in ("sucrose-upload", "sucrose-send")
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.005)


SIZES = [0, 1, PART - 1, PART, PART + 1, 3 * PART, CHUNK_NBYTES, CHUNK_NBYTES + 12345, 2 * CHUNK_NBYTES + PART]


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("ordered", [False, True])
def test_what_arrives_is_the_file_that_a_write_makes(engine: Engine, tmp_path, ordered: bool, encoded: bool) -> None:
    carrying = Carrying(engine, ORDERED if ordered else None, concurrency=1 if ordered else 3)
    contents = {f"data/{nbytes}": weights(nbytes) for nbytes in SIZES}
    encoding = Encoding(level=0) if encoded else None
    tickets = {name: carrying.begin(name, data[:100], data[100:], encoding=encoding) for name, data in contents.items()}
    for number, (name, ticket) in enumerate(tickets.items()):
        result = ticket.wait(60)
        path = tmp_path / str(number)
        local = engine.write(str(path), sources_of(contents[name]), durable=False, encoding=encoding).wait()
        assert carrying.storage.read(name) == path.read_bytes()
        assert (result.nbytes, result.digests, result.stored) == (local.nbytes, local.digests, local.stored)
        assert ticket.progress() == (len(contents[name]), len(contents[name]))
    carrying.threads.close()
    assert_no_thread_is_left()
    assert carrying.store.uploads() == 0


def test_a_file_that_fits_into_one_part_takes_one_request(carrying: Carrying) -> None:
    carrying.begin("small", noise(PART)).wait(60)
    assert carrying.store.asked == [Asked("put", "run/small")]
    carrying.begin("large", noise(PART + 1)).wait(60)
    methods = [asked.method for asked in carrying.store.asked[1:]]
    assert methods == ["begin", "put_part", "put_part", "complete"]


def test_no_more_is_held_than_the_buffers_while_the_store_is_slow(carrying: Carrying) -> None:
    may_go_on = threading.Event()
    carrying.store.before = lambda asked: may_go_on.wait(60) if asked.method == "put_part" else None
    data = noise(12 * PART)
    tickets = [carrying.begin(name, data) for name in ("a", "b")]
    deadline = time.monotonic() + 60
    while carrying.store.at_once < 3:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert tickets[0].progress() == (0, 12 * PART)  # what is on its way has not been sent
    with pytest.raises(TimeoutError) as raised:
        tickets[0].wait(0.0)
    assert raised.value.errno is None
    may_go_on.set()
    for name, ticket in zip("ab", tickets, strict=True):
        ticket.wait(60)
        assert carrying.storage.read(name) == data
    assert carrying.threads.buffers_made == 3
    assert carrying.store.most_at_once == 3


@pytest.mark.parametrize("method", ["begin", "put_part", "complete", "put"])
def test_what_the_store_refuses_ends_the_write_with_its_error_and_leaves_no_upload(
    carrying: Carrying, method: str
) -> None:
    def refuse(asked: Asked) -> None:
        if asked.method == method:
            raise OSError(errno.ENOSPC, "full")

    carrying.store.before = refuse
    nbytes = PART // 2 if method == "put" else 9 * PART
    ticket = carrying.begin("a", noise(nbytes))
    with pytest.raises(StorageError) as raised:
        ticket.wait(60)
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.path == "watched://bucket/run/a"
    assert carrying.store.keys() == []
    assert carrying.store.uploads() == 0
    carrying.store.before = lambda _: None
    carrying.begin("b", b"the next file goes on").wait(60)
    assert carrying.storage.read("b") == b"the next file goes on"


def test_an_engine_that_fails_ends_the_upload_and_leaves_nothing(carrying: Carrying) -> None:
    relays: list[Any] = []
    data = noise(24 * PART)

    def begin() -> Any:
        relays.append(carrying.engine.write_relayed("a", sources_of(data)))
        return relays[0]

    sent = threading.Event()

    def fail(asked: Asked) -> None:  # while others are full, or still to come
        if asked.method == "put_part" and not sent.is_set():
            sent.set()
            relays[0].fail(errno.EIO)

    carrying.store.before = fail
    ticket = UploadTicket(
        begin, carrying.storage, "a", nbytes=len(data), put_nbytes=PART, is_encoded=False, is_staged=False,
        threads=carrying.threads, known=deque(),
    )  # fmt: skip
    with pytest.raises(OSError) as raised:  # noqa: PT011  # looked at below
        ticket.wait(60)
    assert raised.value.errno == errno.EIO
    assert carrying.store.keys() == []
    assert carrying.store.uploads() == 0


@pytest.mark.parametrize("staged", [False, True])
def test_a_cancelled_upload_gives_up_what_is_on_its_way_and_leaves_nothing(carrying: Carrying, staged: bool) -> None:
    may_go_on = threading.Event()
    on_its_way = threading.Event()

    def hold(asked: Asked) -> None:
        if asked.method == "put_part":
            on_its_way.set()
            may_go_on.wait(60)

    carrying.store.before = hold
    staging = Staging(budget_nbytes=1 << 30) if staged else None
    ticket = carrying.begin("a", noise(20 * PART), staging=staging)
    later = carrying.begin("b", noise(2 * PART), staging=staging)
    assert on_its_way.wait(60)
    for one in (ticket, later):
        one.cancel()
    may_go_on.set()
    for one in (ticket, later):
        with pytest.raises(OSError) as raised:  # noqa: PT011 - looked at below
            one.wait(60)
        assert raised.value.errno in (errno.EINTR, None)
    assert carrying.store.keys() == []
    assert carrying.store.uploads() == 0


def test_staged_sources_may_be_changed_before_anything_is_sent(carrying: Carrying) -> None:
    may_go_on = threading.Event()
    carrying.store.before = lambda asked: may_go_on.wait(60) if asked.method == "put" else None
    first = carrying.begin("first", b"x")  # the thread that pulls, and all that follows, waits behind it
    import torch

    tensor = torch.arange(PART // 8)
    expected = tensor.numpy().tobytes()
    sources = sources_of()
    sources.append(tensor.data_ptr(), tensor.nbytes)
    sources.keep_alive.append(tensor)
    ticket = UploadTicket(
        lambda: carrying.engine.write_relayed("a", sources, staging=Staging(budget_nbytes=1 << 30)),
        carrying.storage, "a", nbytes=tensor.nbytes, put_nbytes=PART, is_encoded=False, is_staged=True,
        threads=carrying.threads, known=deque(),
    )  # fmt: skip
    ticket.wait_safe(60)
    ticket.wait_staged(60)
    assert ticket.staged()
    assert ticket.staging() == "host"
    tensor.zero_()
    may_go_on.set()
    first.wait(60)
    ticket.wait(60)
    assert carrying.storage.read("a") == expected


def test_without_staging_the_sources_are_safe_when_the_file_is_there(carrying: Carrying) -> None:
    ticket = carrying.begin("a", noise(3 * PART))
    assert ticket.staging() == "none"
    ticket.wait_safe(60)
    assert carrying.store.keys() == ["run/a"]
    assert ticket.staged()
    ticket.wait_staged(0.0)


def test_the_sources_of_a_file_that_is_sent_are_not_held(carrying: Carrying) -> None:
    import weakref

    class Owner:
        pass

    owner, data = Owner(), noise(3 * PART)
    gone = weakref.ref(owner)
    sources = sources_of(data)
    sources.keep_alive.append(owner)
    ticket = UploadTicket(
        lambda held=sources: carrying.engine.write_relayed("a", held), carrying.storage, "a", nbytes=len(data),
        put_nbytes=PART, is_encoded=False, is_staged=False, threads=carrying.threads, known=deque(),
    )  # fmt: skip
    ticket.wait(60)
    del owner, sources
    gc.collect()
    assert gone() is None


def test_threads_end_by_themselves_and_work_that_comes_later_is_done(carrying: Carrying) -> None:
    carrying.begin("a", noise(5 * PART)).wait(60)
    carrying.threads.close()
    assert_no_thread_is_left()
    carrying.begin("b", noise(5 * PART)).wait(60)
    assert carrying.storage.read("b") == noise(5 * PART)
    carrying.threads.close()
    assert_no_thread_is_left()


def test_where_no_thread_can_be_started_the_caller_carries(carrying: Carrying, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sucrose.snapshot.remote.upload_threads.start_thread", lambda *_: False)
    ticket = carrying.begin("a", noise(5 * PART))
    ticket.wait(0.0)
    assert carrying.storage.read("a") == noise(5 * PART)

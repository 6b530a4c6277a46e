"""Object stores that answer late, wrongly or not at all, and buckets in which others have files, too."""

from __future__ import annotations

import errno
import gc
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import torch
from carriers import noise, sources_of
from signal_sweep import At, ctrl_c, lost
from stored_folders import threads_that_stay
from watched_store import Asked, WatchedStore, serve

from sucrose import Snapshot, StateDict
from sucrose.engine import get_engine
from sucrose.errors import CorruptionError, StorageError
from sucrose.snapshot.remote.upload_threads import UploadThreads
from sucrose.snapshot.remote.uploading import UploadTicket
from sucrose.storage.objects.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["lost"]  # a fixture

OPTIONS: dict[str, Any] = {"part_nbytes": 1 << 20, "attempts": 2, "backoff_s": 0, "concurrency": 4}
RECORD = "run/step_1/.snapshot_metadata"
PART = 1 << 20


def state_of(seed: int) -> dict[str, StateDict]:
    return {"state": StateDict(weights=torch.full((1_000,), float(seed)), pickled=complex(seed, 1), step=seed)}


def assert_restores(url: str, seed: int) -> None:
    restored = state_of(0)
    Snapshot(url).restore(restored)
    assert torch.equal(restored["state"]["weights"], state_of(seed)["state"]["weights"])
    assert (restored["state"]["pickled"], restored["state"]["step"]) == (complex(seed, 1), seed)


def refusal(number: int) -> OSError:
    return PermissionError(number, "no more") if number == errno.EACCES else OSError(number, "no more")


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC], ids=["denied", "full"])
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replacing"])
def test_a_commit_that_was_carried_out_unseen_keeps_its_files(replaces: bool, number: int) -> None:
    """The first request has reached the store, its answer was lost; then the credentials expire, for reading, too."""
    store = WatchedStore()
    url = serve(store)
    if replaces:
        Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    commits: list[Asked] = []

    def after(asked: Asked) -> None:
        if asked == Asked("put", RECORD):
            commits.append(asked)
            store.before = refuse
            raise ConnectionResetError(errno.ECONNRESET, "lost")

    def refuse(asked: Asked) -> None:
        if asked.key == RECORD:
            raise refusal(number)

    store.after = after
    with pytest.raises(StorageError) as raised:
        Snapshot.take(url, state_of(2), storage_options=OPTIONS, overwrite=replaces)
    assert raised.value.errno == number
    assert commits
    store.before = store.after = lambda _: None
    assert_restores(url, 2)


def test_a_commit_that_is_carried_out_late_keeps_its_files_whatever_was_said_since() -> None:
    store = WatchedStore()
    url = serve(store)
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    late: list[bytes] = []
    put = store.put

    def never_answer(key: str, data: memoryview, *, if_absent: bool = False) -> None:
        if key != RECORD:
            put(key, data, if_absent=if_absent)
        elif late:
            raise PermissionError(errno.EACCES, "the credentials have expired")
        else:
            late.append(bytes(data))
            raise ConnectionResetError(errno.ECONNRESET, "lost")

    store.put = never_answer  # type: ignore[method-assign]
    with pytest.raises(PermissionError):
        Snapshot.take(url, state_of(2), storage_options=OPTIONS, overwrite=True)
    assert_restores(url, 1)
    put(RECORD, memoryview(late[0]))
    assert_restores(url, 2)


def test_a_commit_that_is_refused_at_once_leaves_nothing() -> None:
    store = WatchedStore()
    url = serve(store)
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    before = store.keys()

    def refuse(asked: Asked) -> None:
        if asked == Asked("put", RECORD):
            raise PermissionError(errno.EACCES, "not allowed")

    store.before = refuse
    with pytest.raises(PermissionError):
        Snapshot.take(url, state_of(2), storage_options=OPTIONS, overwrite=True)
    assert store.keys() == before
    assert_restores(url, 1)


def test_what_others_have_below_a_snapshot_is_neither_aborted_nor_looked_through() -> None:
    store = WatchedStore()
    url = serve(store)
    storage = store.storage().within("step_1")
    foreign = ["large.bin", "data/train.bin", "objects/scene.obj", "step_7-0123abcd/data/0123456789ab/0_0.safetensors"]
    for name in foreign:
        storage.put(name, b"x")
        storage.upload(name).write_part(1, b"x")
    abandoned = "data/0123456789ab/0_0.safetensors"
    storage.upload(abandoned).write_part(1, b"x")
    store.asked.clear()
    Snapshot.take(url, state_of(1), storage_options={**OPTIONS, "abandoned_after_s": 0})
    assert sorted(upload.name for upload in storage.abandoned_uploads(0)) == sorted(foreign)
    assert all(storage.read(name) == b"x" for name in foreign)
    assert Asked("page", "run/step_1/") not in store.asked


def test_an_object_that_grows_while_it_is_read_is_not_read_to_its_end() -> None:
    store = WatchedStore()
    url = serve(store)
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    key = next(key for key in store.keys() if "/objects/" in key)  # noqa: SIM118  # no mapping
    wanted: list[int | None] = []
    fetch = store.fetch

    def endless(at: str, max_nbytes: int | None) -> bytes:
        if at != key:
            return fetch(at, max_nbytes)
        wanted.append(max_nbytes)
        return b"\0" * (1 << 20 if max_nbytes is None else max_nbytes + 1)

    store.fetch = endless  # type: ignore[method-assign]
    with pytest.raises(CorruptionError):
        Snapshot(url).read_object("0/state/pickled", allow_pickle=True)
    assert wanted
    assert None not in wanted


def views_in(traceback: TracebackType | None) -> list[str]:
    found = []
    while traceback is not None:
        found += [name for name, value in traceback.tb_frame.f_locals.items() if isinstance(value, memoryview)]
        traceback = traceback.tb_next
    return found


@pytest.mark.parametrize("method", ["begin", "put_part", "put"])
def test_the_error_of_an_upload_keeps_none_of_the_memory(method: str) -> None:
    """Whoever keeps it, for a report, would keep a slot of the engine's, too."""
    store = WatchedStore()

    def refuse(asked: Asked) -> None:
        if asked.method == method:
            raise PermissionError(errno.EACCES, "not allowed")

    store.before = refuse
    threads = UploadThreads(2, buffers=1)
    data = noise(PART // 2 if method == "put" else 9 * PART)
    ticket = UploadTicket(
        lambda: get_engine().write_relayed("a", sources_of(data)),
        store.storage(part_nbytes=PART, attempts=1),
        "a",
        nbytes=len(data),
        put_nbytes=PART,
        is_encoded=False,
        is_staged=False,
        threads=threads,
        known=deque(),
    )
    with pytest.raises(PermissionError) as raised:
        ticket.wait(60)
    threads.close()
    error: BaseException | None = raised.value
    while error is not None:
        assert views_in(error.__traceback__) == []
        error = error.__cause__ or error.__context__


def test_ctrl_c_costs_no_slot_wherever_it_comes() -> None:
    slots = Slots(1)
    moment, came = 0, True
    while came:
        moment += 1
        signal = At(moment, ctrl_c)
        try:
            with signal:
                slots.run(lambda: None)
        except KeyboardInterrupt:
            pass
        came = signal.came
        result: list[str] = []
        other = threading.Thread(target=lambda: result.append(slots.run(lambda: "its turn")), daemon=True)  # noqa: B023
        other.start()
        other.join(60)
        assert result == ["its turn"], moment
    assert moment > 3


@pytest.mark.usefixtures("lost")  # in callbacks of Python's weak containers
def test_ctrl_c_ends_a_restore_and_the_next_one_of_the_same_snapshot_works() -> None:
    store = WatchedStore()
    url = serve(store)
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    snapshot = Snapshot(url, storage_options=OPTIONS)
    restored = state_of(0)
    snapshot.restore(restored)
    moment, came = 0, True
    while came:
        moment += 11  # not each: there are hundreds
        signal = At(moment, ctrl_c)
        restored["state"]["weights"].zero_()
        try:
            with signal:
                snapshot.restore(restored)
        except KeyboardInterrupt:
            assert signal.came
        came = signal.came
        snapshot.restore(restored)
        assert torch.equal(restored["state"]["weights"], state_of(1)["state"]["weights"]), moment
        assert not threads_that_stay()


def test_a_handler_restores_from_the_same_snapshot_in_the_middle_of_it() -> None:
    store = WatchedStore()
    url = serve(store)
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    snapshot = Snapshot(url, storage_options=OPTIONS)
    other = state_of(0)
    came, moment = True, 0
    restore: Callable[[], None] = lambda: snapshot.restore(other)  # noqa: E731
    while came:
        moment += 23
        other["state"]["weights"].zero_()
        restored = state_of(0)
        signal = At(moment, restore)
        with signal:
            snapshot.restore(restored)
        came = signal.came
        assert torch.equal(restored["state"]["weights"], state_of(1)["state"]["weights"]), moment
        if came:
            assert torch.equal(other["state"]["weights"], state_of(1)["state"]["weights"]), moment
    gc.collect()
    assert not threads_that_stay()

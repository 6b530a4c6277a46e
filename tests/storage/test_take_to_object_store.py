"""`Snapshot.take` to URLs: what is there afterwards, in every case."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import re
import threading
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from signal_sweep import At, ctrl_c, lost
from watched_store import Asked, WatchedStore, serve

from sucrose import Snapshot, StateDict
from sucrose.errors import CancelledError, StorageError, UnsupportedError
from sucrose.formats.index import index_names
from sucrose.options import override_options
from sucrose.storage.objects import open_storage

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["lost"]  # a fixture

OPTIONS: dict[str, Any] = {"part_nbytes": 1 << 20, "attempts": 1, "concurrency": 4}
KEY = b"a signing key of the tests"


def new_url() -> str:
    return f"memory://{uuid.uuid4().hex}/run/step_1"


def state_of(seed: int, numel: int = 1_000) -> dict[str, StateDict]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "state": StateDict(
            weights=torch.randn(numel, generator=generator),
            halves=torch.randn(31, generator=generator).bfloat16(),
            pickled=OrderedDict(a=complex(seed, 1)),
            also=(seed, "a tuple"),
            step=seed,
        )
    }


def assert_restores(url: str, seed: int, numel: int = 1_000) -> None:
    restored, expected = state_of(0, numel), state_of(seed, numel)
    restored["state"]["weights"].zero_()
    snapshot = Snapshot(url)
    snapshot.restore(restored)
    assert_same(dict(restored["state"]), dict(expected["state"]))
    assert snapshot.verify()


def names_at(url: str) -> list[str]:
    with open_storage(url) as storage:
        return sorted(found.name for found in storage.list())


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_snapshot_is_restored_bit_for_bit(asynchronous: bool, compression: str | None) -> None:
    url, state = new_url(), state_of(1, 1_500_000)
    if asynchronous:
        pending = Snapshot.async_take(url, state, storage_options=OPTIONS, compression=compression)
        state["state"]["weights"].zero_()
        snapshot = pending.wait()
        done, total = pending.progress()
        assert done == total > 6_000_000
    else:
        snapshot = Snapshot.take(url, state, storage_options=OPTIONS, compression=compression)
    assert snapshot.path == url
    assert snapshot.stats is not None
    assert snapshot.stats.nbytes > 6_000_000
    assert_restores(url, 1, 1_500_000)


def test_the_layout_is_that_of_a_snapshot_with_a_tag_in_the_names() -> None:
    url = new_url()
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    names = names_at(url)
    with open_storage(url) as storage:
        record = storage.read(".snapshot_metadata")
    (tag,) = {name.split("/")[1] for name in names if "/" in name}
    assert re.fullmatch("[0-9a-f]{12}", tag)
    assert names == [
        index_names(record)[0],
        ".snapshot_metadata",
        f"data/{tag}/0_0.safetensors",
        f"objects/{tag}/0/state/also",
        f"objects/{tag}/0/state/pickled/a",
    ]


def test_a_copy_of_it_on_a_file_system_is_a_snapshot(tmp_path: Path) -> None:
    url = new_url()
    Snapshot.take(url, state_of(1), storage_options=OPTIONS, signing_key=KEY)
    with open_storage(url) as storage:
        for found in storage.list():
            path = tmp_path / found.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(storage.read(found.name))
    assert_restores(str(tmp_path), 1)
    assert Snapshot(tmp_path, signing_key=KEY).metadata.world_size == 1


def test_a_signed_snapshot_is_read_with_its_key_alone() -> None:
    url = new_url()
    Snapshot.take(url, state_of(1), storage_options=OPTIONS, signing_key=KEY)
    assert Snapshot(url, signing_key=KEY).verify()
    from sucrose.errors import SignatureError

    with pytest.raises(SignatureError):
        _ = Snapshot(url, signing_key=b"another signing key of the tests").metadata


def test_what_is_there_stays_unless_it_is_to_be_replaced() -> None:
    url = new_url()
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    before = names_at(url)
    for take in (Snapshot.take, Snapshot.async_take):
        with pytest.raises(FileExistsError) as raised:
            take(url, state_of(2), storage_options=OPTIONS)
        assert raised.value.filename == url
    assert names_at(url) == before
    assert_restores(url, 1)


def test_of_a_replaced_snapshot_nothing_is_left_and_foreign_files_stay() -> None:
    url = new_url()
    with open_storage(url) as storage:
        storage.put("notes.txt", b"mine")
        storage.put("data/notes.txt", b"mine, too")
        for seed in (1, 2):
            Snapshot.take(url, state_of(seed), storage_options=OPTIONS, overwrite=True, signing_key=KEY)
            assert_restores(url, seed)
            names = names_at(url)
            assert len(names) == 8, names
            assert {"notes.txt", "data/notes.txt"} < set(names)


def test_a_snapshot_that_was_copied_from_a_file_system_is_replaced_as_a_whole(tmp_path: Path) -> None:
    url = new_url()
    Snapshot.take(tmp_path / "local", state_of(1))
    with open_storage(url) as storage:
        for path in (tmp_path / "local").rglob("*"):
            if path.is_file():
                storage.put(str(path.relative_to(tmp_path / "local")), path.read_bytes())
    Snapshot.take(url, state_of(2), storage_options=OPTIONS, overwrite=True)
    assert_restores(url, 2)
    assert len(names_at(url)) == 5


def test_a_snapshot_that_another_one_refers_to_is_not_replaced(tmp_path: Path) -> None:
    bucket = f"memory://{uuid.uuid4().hex}/run"
    state = state_of(1)
    Snapshot.take(tmp_path / "step_1", state, fingerprints=True)
    Snapshot.take(tmp_path / "step_2", state, base=tmp_path / "step_1")
    with open_storage(bucket) as storage:
        for path in tmp_path.rglob("*"):
            if path.is_file():
                storage.put(str(path.relative_to(tmp_path)), path.read_bytes())
        with pytest.raises(FileExistsError, match="step_2"):
            Snapshot.take(f"{bucket}/step_1", state_of(2), overwrite=True)
        assert_restores(f"{bucket}/step_2", 1)
        storage.delete(["step_2/.snapshot_metadata"])
        Snapshot.take(f"{bucket}/step_1", state_of(2), overwrite=True)
    assert_restores(f"{bucket}/step_1", 2)


RECORD = "run/step_1/.snapshot_metadata"


def failing_request(store: WatchedStore, number: int, when: str) -> list[Asked]:
    """Lets one request fail, before the store has done it or with its answer lost, which is in the list then."""
    numbers = itertools.count()
    failed: list[Asked] = []

    def fail(asked: Asked) -> None:
        if next(numbers) == number:
            failed.append(asked)
            raise OSError(errno.EIO, "injected")

    setattr(store, when, fail)
    return failed


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replacing"])
def test_whichever_request_fails_the_old_or_the_new_snapshot_is_there_and_nothing_else(
    replaces: bool, when: str
) -> None:
    outcomes = set()
    for number in itertools.count():
        store = WatchedStore()
        url = serve(store)
        if replaces:
            Snapshot.take(url, state_of(1), storage_options=OPTIONS)
        old = store.keys()
        failed = failing_request(store, number, when)
        error = None
        try:
            Snapshot.take(url, state_of(2, 600_000), storage_options=OPTIONS, overwrite=replaces)
        except StorageError as raised:
            error = raised
        store.before = store.after = lambda _: None
        if error is None:
            assert_restores(url, 2, 600_000)
        else:
            assert (error.errno, str(error.path).startswith(url)) == (errno.EIO, True)
            if replaces:
                assert_restores(url, 1)
            else:
                assert RECORD not in store.keys()  # noqa: SIM118  # no mapping
            if failed[0].key != RECORD:  # after that one's request nobody knows, and files that may be needed stay
                assert store.keys() == old, failed
        outcomes.add("old" if error else "new")
        Snapshot.take(url, state_of(3), storage_options={**OPTIONS, "abandoned_after_s": 0}, overwrite=True)
        assert_restores(url, 3)
        assert (len(store.keys()), store.uploads()) == (5, 0), failed
        if not failed:
            break
    assert outcomes == {"old", "new"}


def test_what_a_store_says_late_costs_no_files(caplog: pytest.LogCaptureFixture) -> None:
    """The commit record's request has no answer; it is carried out when the take has long failed."""
    store = WatchedStore()
    url = serve(store)
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    late: list[bytes] = []

    def never_answer(asked: Asked) -> None:
        if asked == Asked("put", "run/step_1/.snapshot_metadata"):
            raise TimeoutError("no answer")

    store.before = never_answer
    original = store.inner.put

    def put(key: str, data: memoryview, *, if_absent: bool = False) -> None:
        original(key, data, if_absent=if_absent)

    def watched_put(key: str, data: memoryview, *, if_absent: bool = False) -> None:
        if key.endswith(".snapshot_metadata"):
            late.append(bytes(data))
        store._ask("put", key, lambda: put(key, data, if_absent=if_absent))

    store.put = watched_put  # type: ignore[method-assign]
    with pytest.raises(StorageError) as raised:
        Snapshot.take(url, state_of(2), storage_options=OPTIONS, overwrite=True)
    assert raised.value.errno == errno.ETIMEDOUT
    assert_restores(url, 1)
    assert "nobody knows" in caplog.text
    original("run/step_1/.snapshot_metadata", memoryview(late[0]))
    assert_restores(url, 2)


def test_a_state_that_cannot_be_saved_leaves_nothing() -> None:
    url = new_url()
    state = state_of(1, 2_000_000)
    state["state"]["function"] = lambda: None
    with pytest.raises(UnsupportedError):
        Snapshot.take(url, state, storage_options=OPTIONS)
    assert names_at(url) == []
    state["state"].pop("function")
    Snapshot.take(url, state, storage_options=OPTIONS)
    assert_restores(url, 1, 2_000_000)


def test_a_cancelled_take_leaves_what_was_there() -> None:
    store = WatchedStore()
    url = serve(store)
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    before = store.keys()
    may_go_on, on_its_way = threading.Event(), threading.Event()

    def hold(asked: Asked) -> None:
        if asked.method == "put_part":
            on_its_way.set()
            may_go_on.wait(60)

    store.before = hold
    pending = Snapshot.async_take(url, state_of(2, 3_000_000), storage_options=OPTIONS, overwrite=True)
    assert on_its_way.wait(60)
    done, total = pending.progress()
    assert done < total
    threading.Timer(0.05, may_go_on.set).start()
    assert pending.cancel()
    with pytest.raises(CancelledError):
        pending.wait()
    store.before = lambda _: None
    assert store.keys() == before
    assert store.uploads() == 0
    assert_restores(url, 1)


def test_takes_are_committed_in_the_order_of_their_calls() -> None:
    store = WatchedStore()
    url = serve(store)
    base = url.rpartition("/")[0]
    pending = [
        Snapshot.async_take(f"{base}/step_{number}", state_of(number), storage_options=OPTIONS) for number in range(4)
    ]
    Snapshot.take(f"{base}/step_4", state_of(4), storage_options=OPTIONS)
    assert all(one.done() for one in pending)
    records = [one.key for one in store.asked if one.method == "put" and one.key.endswith(".snapshot_metadata")]
    assert records == [f"run/step_{number}/.snapshot_metadata" for number in range(5)]
    for number in range(5):
        assert_restores(f"{base}/step_{number}", number)


def test_small_files_are_put_side_by_side() -> None:
    store = WatchedStore()
    url = serve(store)
    together = threading.Barrier(4)
    store.before = lambda asked: together.wait(60) if "/objects/" in asked.key and asked.method == "put" else None
    state = {"state": StateDict({f"object {number}": (number, "a tuple") for number in range(8)})}
    Snapshot.take(url, state, storage_options=OPTIONS)
    assert store.most_at_once == 4
    restored = {"state": StateDict({f"object {number}": None for number in range(8)})}
    store.before = lambda _: None
    Snapshot(url).restore(restored)
    assert dict(restored["state"]) == dict(state["state"])


def test_of_two_that_save_to_one_url_at_once_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    store = WatchedStore()
    url = serve(store)
    both_have_looked = threading.Barrier(2)
    outcomes: dict[int, Any] = {}

    def before(asked: Asked) -> None:
        if asked.method == "put" and asked.key.endswith(".snapshot_metadata"):
            both_have_looked.wait(60)

    store.before = before

    def save(seed: int) -> None:
        try:
            outcomes[seed] = Snapshot.take(url, state_of(seed), storage_options=OPTIONS)
        except FileExistsError as error:
            outcomes[seed] = error

    writers = [threading.Thread(target=save, args=(seed,)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    store.before = lambda _: None
    (winner,) = (seed for seed, outcome in outcomes.items() if isinstance(outcome, Snapshot))
    assert isinstance(outcomes[3 - winner], FileExistsError)
    assert_restores(url, winner)
    assert len(store.keys()) == 5


def test_a_pending_take_before_whose_commit_another_comes_is_told() -> None:
    store = WatchedStore()
    url = serve(store)

    def before(asked: Asked) -> None:
        if asked == Asked("put", "run/step_1/.snapshot_metadata"):
            store.inner.put(asked.key, memoryview(b"another's"))

    store.before = before
    pending = Snapshot.async_take(url, state_of(1), storage_options=OPTIONS)
    with pytest.raises(FileExistsError) as raised:
        pending.wait(60)
    assert raised.value.filename == url
    assert store.keys() == ["run/step_1/.snapshot_metadata"]


def test_leftovers_are_removed_when_they_are_old_and_nobodys(caplog: pytest.LogCaptureFixture) -> None:
    url = new_url()
    with open_storage(url) as storage:
        left = ["data/0123456789ab/0_0.safetensors", "objects/0123456789ab/0/a", f".snapshot_index.{'0' * 32}"]
        foreign = ["data/notes/of_mine", "objects/0/a", ".snapshot_index.old", "data/0123456789ab"]
        for name in (*left, *foreign):
            storage.put(name, b"x")
        storage.upload("data/0123456789ab/0_1.safetensors").write_part(1, b"x")
        Snapshot.take(url, state_of(1), storage_options=OPTIONS)
        assert {*left, *foreign} < set(names_at(url))  # another program may be writing them
        Snapshot.take(url, state_of(2), storage_options={**OPTIONS, "abandoned_after_s": 0}, overwrite=True)
        names = set(names_at(url))
        assert names.isdisjoint(left)
        assert set(foreign) < names
        assert list(storage.abandoned_uploads(0)) == []
    assert_restores(url, 2)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_cannot_be_cleaned_up_is_no_failure_of_the_take(caplog: pytest.LogCaptureFixture) -> None:
    store = WatchedStore()
    url = serve(store)
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)

    def refuse(asked: Asked) -> None:
        if asked.method in ("delete", "pending"):
            raise PermissionError(errno.EACCES, "not allowed")

    store.before = refuse
    Snapshot.take(url, state_of(2), storage_options=OPTIONS, overwrite=True)
    assert_restores(url, 2)
    assert [record.levelname for record in caplog.records if record.name.startswith("sucrose")] == ["WARNING"] * 2


def test_data_files_are_cut_where_they_get_too_long_to_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    url = new_url()
    monkeypatch.setattr("sucrose.snapshot.plan.MAX_OBJECT_NBYTES", 1 << 20)
    state = {"state": StateDict({f"w{number}": torch.full((200_000,), float(number)) for number in range(4)})}
    Snapshot.take(url, state, storage_options=OPTIONS)
    assert len([name for name in names_at(url) if name.startswith("data/")]) == 4
    value = Snapshot(url).read_object("0/state/w3")
    assert torch.equal(value, state["state"]["w3"])


def test_names_that_a_store_would_not_take_become_digests() -> None:
    url = new_url()
    names = ["a\nb", "x" * 300, "/".join(["deep"] * 150), "é b&c", "\x7f"]
    state = {"state": StateDict({name: (name, "an object") for name in names})}
    Snapshot.take(url, state, storage_options=OPTIONS)
    restored = {"state": StateDict(dict.fromkeys(names))}
    Snapshot(url).restore(restored)
    assert dict(restored["state"]) == dict(state["state"])
    assert all(name.isprintable() and len(name.encode()) < 500 for name in names_at(url))


def test_what_takes_to_object_stores_do_not_know_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    url = new_url()
    base = Snapshot.take(tmp_path / "base", state_of(1))
    for arguments in ({"base": base}, {"fingerprints": True}):
        with pytest.raises(UnsupportedError, match="file systems"):
            Snapshot.take(url, state_of(1), storage_options=OPTIONS, **arguments)
    remote = Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    with pytest.raises(UnsupportedError, match="so far"):
        Snapshot.take(tmp_path / "next", state_of(1), base=remote)
    with override_options(fingerprints=1):  # what is said for all takes counts where it can
        Snapshot.take(url, state_of(2), storage_options=OPTIONS, overwrite=True)
    assert_restores(url, 2)
    with pytest.raises(ValueError, match="storage_options"):
        Snapshot.take(tmp_path / "local", state_of(1), storage_options=OPTIONS)


def test_a_store_that_takes_parts_one_after_another_gets_them_so(tmp_path: Path) -> None:
    scheme_of_fsspec = f"local://{tmp_path}/run/step_1"
    Snapshot.take(scheme_of_fsspec, state_of(1, 2_000_000), storage_options=OPTIONS)
    assert_restores(str(tmp_path / "run" / "step_1"), 1, 2_000_000)
    Snapshot.take(scheme_of_fsspec, state_of(2), storage_options=OPTIONS, overwrite=True)
    assert_restores(scheme_of_fsspec, 2)


def test_the_metadata_names_files_below_the_snapshot() -> None:
    url = new_url()
    Snapshot.take(url, state_of(1), storage_options=OPTIONS)
    with open_storage(url) as storage:
        manifest = json.loads(storage.read(".snapshot_metadata"))["manifest"]
        locations = {entry["location"] for entry in manifest.values() if "location" in entry}
        assert locations == {name for name in names_at(url) if "/" in name}


def test_ctrl_c_leaves_the_old_snapshot_or_the_new_one_and_no_thread(lost: list[object]) -> None:
    store = WatchedStore()
    url = serve(store)
    Snapshot.take(url, state_of(0, 600_000), storage_options=OPTIONS)
    saved, moment, came = 0, 0, True
    while came:
        moment += 97  # not each: there are thousands, and neighbours differ little
        interrupted, signal = False, At(moment, ctrl_c)
        try:
            with signal:
                Snapshot.take(url, state_of(moment, 600_000), storage_options=OPTIONS, overwrite=True)
        except KeyboardInterrupt:
            interrupted = True
        came = signal.came
        assert interrupted is came
        found = Snapshot(url).read_object("0/state/step")
        assert found == moment or (interrupted and found == saved), moment
        saved = found
        for thread in threading.enumerate():
            if thread.name in ("sucrose-send", "sucrose-upload"):
                thread.join(60)
                assert not thread.is_alive()
    assert not lost
    Snapshot.take(url, state_of(1), storage_options={**OPTIONS, "abandoned_after_s": 0}, overwrite=True)
    assert_restores(url, 1)
    assert (len(store.keys()), store.uploads()) == (5, 0)

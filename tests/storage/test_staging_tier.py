"""Takes to object stores by way of a local disk: what is where, at every moment."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import uuid
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bitwise import assert_same
from rank_threads import ranks_of, run_threads
from watched_store import Asked, WatchedStore, serve

from sucrose import Snapshot, StateDict, resume_uploads
from sucrose.errors import (
    ConfigError,
    CorruptionError,
    IncompleteSnapshotError,
    RankError,
    StorageFullError,
    UnsupportedError,
)
from sucrose.ranks import Ranks
from sucrose.snapshot.staged_upload import place
from sucrose.snapshot.staged_upload.staging import MOST_STAGED
from sucrose.storage.leases import lease, lease_of_file
from sucrose.storage.objects import open_storage

OPTIONS: dict[str, Any] = {"part_nbytes": 1 << 20, "attempts": 1, "concurrency": 4}
KEY = b"a signing key of the tests"
PATIENCE_S = 60


class HeldStore(WatchedStore):
    """A store whose uploads wait until the test opens it; fails what the test wants to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.fails_at = ""
        """Part of the key of an object that cannot be put."""
        self.before = self._hold
        self.url = serve(self)

    def _hold(self, asked: Asked) -> None:
        if asked.method in ("put", "put_part", "begin"):
            assert self.opened.wait(PATIENCE_S)
            if self.fails_at and self.fails_at in asked.key:
                raise PermissionError(errno.EACCES, "refused by the test", asked.key)


@pytest.fixture
def store() -> Iterator[HeldStore]:
    store = HeldStore()
    yield store
    store.opened.set()


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return tmp_path / "fast" / "disk"


def state_of(seed: int, numel: int = 1_000) -> dict[str, StateDict]:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(numel, generator=generator)
    return {"state": StateDict(weights=weights, pickled=OrderedDict(a=complex(seed, 1)), step=seed)}


def assert_restores(snapshot: Snapshot, seed: int, numel: int = 1_000) -> None:
    restored, expected = state_of(0, numel), state_of(seed, numel)
    snapshot.restore(restored)
    assert_same(dict(restored["state"]), dict(expected["state"]))
    assert snapshot.verify()


def take(url: str, seed: int, disk: Path, numel: int = 1_000, **options: Any) -> Snapshot:
    return Snapshot.take(url, state_of(seed, numel), storage_options=OPTIONS, staging_dir=disk, **options)


def step_in(url: str) -> int:
    step = Snapshot(url).read_object("0/state/step")
    assert isinstance(step, int)
    return step


def names_at(url: str) -> list[str]:
    with open_storage(url) as storage:
        return sorted(found.name for found in storage.list())


def names_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def new_url() -> str:
    return f"memory://{uuid.uuid4().hex}/run/step_1"


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("compression", "key"), [(None, None), ("zstd", KEY)], ids=["plain", "signed zstd"])
def test_a_take_returns_with_the_staged_copy_and_the_store_has_it_later(
    store: HeldStore, disk: Path, asynchronous: bool, compression: str | None, key: bytes | None
) -> None:
    how: dict[str, Any] = {"compression": compression, "signing_key": key, "staging_dir": disk}
    state = state_of(1, 1_500_000)
    if asynchronous:
        pending = Snapshot.async_take(store.url, state, storage_options=OPTIONS, **how)
        state["state"]["weights"].zero_()
        snapshot = pending.wait()
    else:
        snapshot = Snapshot.take(store.url, state, storage_options=OPTIONS, **how)
    assert snapshot.path == store.url
    assert snapshot.stats is not None
    assert not snapshot.uploaded()
    assert_restores(snapshot, 1, 1_500_000)
    with pytest.raises(TimeoutError):
        snapshot.wait_uploaded(0.01)
    with pytest.raises(IncompleteSnapshotError):
        _ = Snapshot(store.url).metadata
    assert store.keys() == []
    store.opened.set()
    snapshot.wait_uploaded()
    assert snapshot.uploaded()
    assert list(disk.iterdir()) == []
    assert_restores(snapshot, 1, 1_500_000)
    assert_restores(Snapshot(store.url, signing_key=key), 1, 1_500_000)
    assert [asked.key for asked in store.asked if asked.method == "put"][-1].endswith("/.snapshot_metadata")
    assert Snapshot(store.url).uploaded()


def test_the_staged_copy_has_the_names_that_the_store_will_have_and_a_note_without_credentials(
    store: HeldStore, disk: Path
) -> None:
    secret = {**OPTIONS, "key": "my-key", "secret": "my-secret", "endpoint": "http://127.0.0.1:9"}
    snapshot = Snapshot.take(
        store.url, state_of(1), storage_options=secret, signing_key=KEY, staging_dir=f"fs://{disk}"
    )
    (copy,) = disk.iterdir()
    staged = names_below(copy)
    note = json.loads((copy / ".upload").read_text())
    assert note["url"] == store.url
    assert note["storage_options"] == {**OPTIONS, "endpoint": "http://127.0.0.1:9"}
    assert "my-" not in (copy / ".upload").read_text()
    assert Snapshot(copy, signing_key=KEY).verify()
    store.opened.set()
    snapshot.wait_uploaded()
    assert names_at(store.url) == sorted({*staged} - {".upload"})


def test_uploads_are_committed_in_the_order_of_the_takes(store: HeldStore, disk: Path) -> None:
    urls = [f"{store.url}/{name}" for name in ("c", "a", "b")]
    first = Snapshot.async_take(urls[0], state_of(1), staging_dir=disk)
    others = [take(url, seed, disk) for seed, url in enumerate(urls[1:], start=2)]
    store.opened.set()
    for snapshot in (*others, first.wait()):
        snapshot.wait_uploaded()
    committed = [asked.key.split("/")[-2] for asked in store.asked if asked.key.endswith("/.snapshot_metadata")
                 and asked.method == "put"]  # fmt: skip
    assert committed == ["c", "a", "b"]


class WhileReading:
    """A stateful that lets something happen in the middle of a restore."""

    def __init__(self, then: Any) -> None:
        self.then = then

    def state_dict(self) -> dict[str, Any]:
        self.then()
        return {"step": 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {"step": 3}


def test_a_staged_copy_that_is_being_read_is_removed_only_afterwards(store: HeldStore, disk: Path) -> None:
    state = {**state_of(1), "late": StateDict(step=3)}
    snapshot = Snapshot.take(store.url, state, staging_dir=disk)

    def upload() -> None:
        store.opened.set()
        snapshot.wait_uploaded()
        assert len(list(disk.iterdir())) == 1

    before = len(store.asked)
    restored: dict[str, Any] = {"late": WhileReading(upload), **state_of(0)}
    snapshot.restore(restored)
    assert_same(dict(restored["state"]), dict(state_of(1)["state"]))
    assert not [asked for asked in store.asked[before:] if asked.method == "fetch_into"]
    assert list(disk.iterdir()) == []
    assert_restores_from_store(snapshot)


def assert_restores_from_store(snapshot: Snapshot) -> None:
    assert_same(snapshot.read_object("0/state/weights"), state_of(1)["state"]["weights"])


def test_a_failed_upload_is_told_once_and_goes_on_with_what_the_store_lacks(
    store: HeldStore, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.opened.set()
    store.fails_at = ".snapshot_index"
    with caplog.at_level(logging.ERROR, "sucrose"):
        snapshot = take(store.url, 1, disk, 1_500_000)
        with pytest.raises(PermissionError) as raised:
            snapshot.wait_uploaded()
    assert str(raised.value.filename).startswith(store.url)
    assert [record for record in caplog.records if store.url in record.getMessage()]
    assert not snapshot.uploaded()
    assert_restores(snapshot, 1, 1_500_000)
    store.fails_at = ""
    other = take(f"{store.url}/other", 2, disk)  # it was told
    other.wait_uploaded()
    snapshot.wait_uploaded()
    assert_restores(Snapshot(store.url), 1, 1_500_000)
    of_first = Counter(asked for asked in store.asked if asked.method in ("put", "put_part", "complete"))
    data = [asked for asked in of_first if "/data/" in asked.key and "other" not in asked.key]
    assert sum(of_first[asked] for asked in data if asked.method == "put_part") == 6
    assert list(disk.iterdir()) == []


def test_the_next_take_raises_what_nobody_was_told(store: HeldStore, disk: Path) -> None:
    store.opened.set()
    store.fails_at = "/data/"
    first = take(store.url, 1, disk)
    while not (failed := _has_failed(disk)):
        pass
    assert failed
    with pytest.raises(PermissionError):
        take(f"{store.url}/2", 2, disk)
    store.fails_at = ""
    take(f"{store.url}/2", 2, disk).wait_uploaded()
    first.wait_uploaded()
    assert step_in(store.url) == 1
    assert step_in(f"{store.url}/2") == 2


def _has_failed(disk: Path) -> bool:
    from sucrose.snapshot.staged_upload.upload_queue import queue_of

    return not queue_of(str(disk)).under_way()


def test_of_somebody_elses_snapshot_nothing_is_touched_and_the_staged_copy_stays(store: HeldStore, disk: Path) -> None:
    store.opened.set()
    store.fails_at = "/data/"
    snapshot = take(store.url, 1, disk)
    with pytest.raises(PermissionError):
        snapshot.wait_uploaded()
    store.fails_at = ""
    Snapshot.take(store.url, state_of(3))
    take(new_url(), 2, disk).wait_uploaded()
    with pytest.raises(FileExistsError) as raised:
        snapshot.wait_uploaded()
    assert raised.value.filename == store.url
    asked = len(store.asked)
    take(new_url(), 2, disk).wait_uploaded()
    assert len(store.asked) == asked  # it is not tried again
    assert step_in(store.url) == 3
    assert len(names_at(store.url)) == 4
    (copy,) = disk.iterdir()
    assert_restores(snapshot, 1)
    assert_restores(Snapshot(copy), 1)


def test_a_second_snapshot_for_a_url_is_refused_while_the_first_is_on_its_way(store: HeldStore, disk: Path) -> None:
    first = take(store.url, 1, disk)
    with pytest.raises(FileExistsError) as raised:
        take(store.url, 2, disk)
    assert raised.value.filename == store.url
    second = take(store.url, 3, disk, overwrite=True)
    store.opened.set()
    second.wait_uploaded()
    assert first.uploaded()
    assert step_in(store.url) == 3


def test_a_snapshot_that_came_during_the_upload_is_not_replaced(store: HeldStore, disk: Path) -> None:
    came = False

    def commit_before(asked: Asked) -> None:
        nonlocal came
        if asked == Asked("put", "run/step_1/.snapshot_metadata") and not came:
            came = True
            Snapshot.take(store.url, state_of(3))

    store.before = commit_before
    snapshot = take(store.url, 1, disk)
    with pytest.raises(FileExistsError):
        snapshot.wait_uploaded()
    assert step_in(store.url) == 3
    assert len(names_at(store.url)) == 4
    assert len(list(disk.iterdir())) == 1


def test_an_older_snapshot_is_there_until_the_new_one_is_whole(store: HeldStore, disk: Path) -> None:
    store.opened.set()
    Snapshot.take(store.url, state_of(1))
    store.opened.clear()
    snapshot = take(store.url, 2, disk, overwrite=True)
    assert step_in(store.url) == 1
    store.opened.set()
    snapshot.wait_uploaded()
    assert step_in(store.url) == 2
    assert len(names_at(store.url)) == 4


def test_what_has_failed_is_never_put_over_what_was_taken_later(store: HeldStore, disk: Path) -> None:
    store.opened.set()
    store.fails_at = "/data/"
    first = take(store.url, 1, disk, overwrite=True)
    with pytest.raises(PermissionError):
        first.wait_uploaded()

    def fail_once(asked: Asked) -> None:
        if asked.method == "put" and "/data/" in asked.key:
            store.before = lambda _: None
            raise PermissionError(errno.EACCES, "refused by the test", asked.key)

    store.before = fail_once  # the first again, and the second not
    second = take(store.url, 2, disk, overwrite=True)
    second.wait_uploaded()
    assert step_in(store.url) == 2
    assert list(disk.iterdir()) == []
    with pytest.raises(PermissionError):
        first.wait_uploaded()
    assert resume_uploads(disk) == ()
    assert step_in(store.url) == 2


def test_a_program_that_is_faster_than_the_store_waits_for_it(store: HeldStore, disk: Path) -> None:
    most, is_over = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not is_over.wait(0.001):
            most = max(most, len([name for name in os.listdir(disk) if not name.startswith(".")]))
            if most >= MOST_STAGED and not store.opened.is_set():
                is_over.wait(0.3)  # in which others would come, if they could
                store.opened.set()

    disk.mkdir(parents=True)
    watcher = threading.Thread(target=watch)
    watcher.start()
    taken = [take(f"{store.url}/{step}", step, disk) for step in range(MOST_STAGED + 4)]
    for snapshot in taken:
        snapshot.wait_uploaded()
    is_over.set()
    watcher.join()
    assert most == MOST_STAGED
    assert [step_in(snapshot.path) for snapshot in taken] == list(range(MOST_STAGED + 4))


def test_a_full_disk_is_waited_for_as_long_as_uploads_make_room(
    store: HeldStore, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def only_one_fits(target: str, nbytes: int, *, replaces: bool) -> None:
        if any(not name.startswith(".") for name in os.listdir(disk)):
            store.opened.set()
            raise StorageFullError(errno.ENOSPC, "full", target, path=target)

    disk.mkdir(parents=True)
    monkeypatch.setattr(place, "check_free_space", only_one_fits)
    first = take(store.url, 1, disk)
    second = take(f"{store.url}/2", 2, disk)
    assert first.uploaded()
    second.wait_uploaded()
    (disk / "somebody else's").write_bytes(b"")
    with pytest.raises(StorageFullError):
        take(f"{store.url}/3", 3, disk)
    assert sorted(path.name for path in disk.iterdir()) == ["somebody else's"]


@pytest.mark.parametrize("where", ["data", "objects"])
def test_a_staged_copy_that_was_changed_does_not_become_a_snapshot(store: HeldStore, disk: Path, where: str) -> None:
    store.opened.set()
    store.fails_at = f"/{where}/"
    snapshot = take(store.url, 1, disk)
    with pytest.raises(PermissionError):
        snapshot.wait_uploaded()
    (file,) = [path for path in disk.rglob("*") if path.is_file() and f"/{where}/" in str(path)]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    store.fails_at = ""
    take(new_url(), 2, disk).wait_uploaded()
    with pytest.raises(CorruptionError) as raised:
        snapshot.wait_uploaded()
    assert raised.value.path == str(file)
    assert not [name for name in names_at(store.url) if name.startswith(".snapshot")]
    assert file.exists()


def test_what_a_dead_take_has_left_is_removed_and_what_a_living_one_writes_stays(disk: Path) -> None:
    dead, living = (disk / f".0000000{number}-{number * 12}.tmp-{uuid.uuid4().hex}" for number in "45")
    for folder in (dead, living):
        folder.mkdir(parents=True)
        (folder / ".snapshot_index").write_bytes(b"")
    held = lease(str(living))
    assert held is not None
    with held:
        snapshot = take(new_url(), 1, disk)
        snapshot.wait_uploaded()
        assert list(disk.iterdir()) == [living]
    take(new_url(), 1, disk).wait_uploaded()
    assert list(disk.iterdir()) == []


def test_what_another_process_has_staged_is_left_to_it(store: HeldStore, disk: Path, tmp_path: Path) -> None:
    take(store.url, 1, disk)
    copy = next(disk.iterdir())
    others = tmp_path / "others" / copy.name
    others.parent.mkdir()
    copy_folder(copy, others)
    held = lease_of_file(str(others / ".upload"), alone=True)
    assert held is not None
    with held:
        assert resume_uploads(others.parent) == ()
    store.opened.set()
    assert resume_uploads(disk) in ((store.url,), ())  # this process's own
    later = take(new_url(), 2, others.parent)  # that one has died by now, and its snapshot is there
    later.wait_uploaded()
    assert list(others.parent.iterdir()) == []
    assert step_in(store.url) == 1
    assert store.asked.count(Asked("put", "run/step_1/.snapshot_metadata")) == 1


def copy_folder(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


def test_a_damaged_note_is_an_error_that_says_where_it_is(disk: Path) -> None:
    folder = disk / "00000001-0123456789ab"
    folder.mkdir(parents=True)
    (folder / ".upload").write_bytes(b"{")
    with pytest.raises(CorruptionError) as raised:
        resume_uploads(disk)
    assert raised.value.path == str(folder / ".upload")
    with pytest.raises(CorruptionError):
        take(new_url(), 1, disk)


def test_what_cannot_be_staged_is_refused_before_anything_is_done(disk: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        Snapshot.take(tmp_path / "step_1", state_of(1), staging_dir=disk)
    with pytest.raises(ConfigError):
        Snapshot.take(new_url(), state_of(1), staging_dir=new_url())
    base = Snapshot.take(tmp_path / "base", state_of(1))
    with pytest.raises(UnsupportedError):
        Snapshot.take(new_url(), state_of(1), base=base, staging_dir=disk)
    with pytest.raises(FileNotFoundError):
        resume_uploads(disk)
    assert not disk.exists()


def test_several_ranks_are_refused_on_each_of_them(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, url = torch.distributed.HashStore(), new_url()
    monkeypatch.setattr(Ranks, "of", classmethod(lambda _, rank: ranks_of(store, rank, 2)))
    outcomes = run_threads(2, lambda rank: Snapshot.take(url, state_of(1), pg=rank, staging_dir=disk))
    assert {type(outcome) for outcome in outcomes} <= {UnsupportedError, RankError}
    assert UnsupportedError in map(type, outcomes)
    assert not disk.exists()

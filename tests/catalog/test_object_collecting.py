"""Collections in object stores: what they remove, what they leave, and what is left where they or saves are cut off."""

from __future__ import annotations

import datetime
import errno
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import torch
from places import Place
from watched_store import Asked, WatchedStore, serve

from sucrose import Catalog, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.catalog.collecting import collect
from sucrose.catalog.objects import records
from sucrose.catalog.opening import open_catalog_directory
from sucrose.catalog.retention import Retention
from sucrose.errors import StorageError
from sucrose.formats.manifest import METADATA_FILE
from sucrose.storage.objects import memory
from sucrose.storage.objects.shared import shared_storage

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("idle")]

PATIENCE_S = 60.0
ONCE = {"attempts": 1}


def state(value: float = 0.0) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((100,), float(value)), words={"some", "words"})}


def restored(catalog: Catalog) -> float:
    found = state()
    assert catalog.restore_latest(found) is not None
    assert found["state"]["tensor"].eq(found["state"]["value"]).all()
    value: float = found["state"]["value"]
    return value


def check_all(root: str) -> list[int]:
    """Steps of all that is listed, each of which is whole."""
    generations = Catalog(root).generations()
    assert all(generation.snapshot().verify() for generation in generations)
    return [generation.step for generation in generations]


def folders(root: str) -> set[str]:
    return {name.split("/")[0] for name in Place(root).files()}


def an_hour_more_than_a_day_ago() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=25)


def test_the_commit_record_goes_before_everything_else(store: WatchedStore, watched: str) -> None:
    for step in (1, 2):
        Catalog(watched).save(step, state(step))
    [old, _] = Catalog(watched).generations()
    store.asked.clear()
    Catalog(watched, keep_last=1).collect()
    deleted = [asked.key for asked in store.asked if asked.method == "delete" and old.id in asked.key]
    assert deleted[0].endswith(f"{old.id}/{METADATA_FILE}")
    assert len(deleted) > 1
    assert old.id not in folders(watched)


def test_a_dry_run_tells_what_a_collection_then_does(bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in range(4):
        Catalog(bucket.root).save(step, state(step))
    assert COLLECTOR.wait_idle(PATIENCE_S)  # it would take away what is left at once
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_now", an_hour_more_than_a_day_ago)
        bucket.write("step_7-01234567/data/0123456789ab/0_0.safetensors", b"half")
    keeping = Catalog(bucket.root, keep_last=1, keep_every=2)
    before = bucket.files()
    told = keeping.collect(dry_run=True)
    assert bucket.files() == before
    done = keeping.collect()
    assert [generation.step for generation in done.removed] == [1]
    assert done.leftovers == ("step_7-01234567",)
    assert (told.removed, told.leftovers, told.nbytes) == (done.removed, done.leftovers, done.nbytes)
    assert check_all(bucket.root) == [0, 2, 3]
    again = keeping.collect()
    assert not again.removed
    assert not again.leftovers


def test_what_a_dead_writer_left_is_removed_after_a_day_and_a_live_ones_is_not(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "data/0123456789ab/0_0.safetensors"
    catalog = Catalog(bucket.root)
    catalog.save(1, state(1))
    assert COLLECTOR.wait_idle(PATIENCE_S)  # it would take away what is left at once
    with monkeypatch.context() as patch:
        patch.setattr(memory, "_now", an_hour_more_than_a_day_ago)
        for name in ("step_5-00000000", "step_6-00000000", "step_7-00000000", "somebody"):
            bucket.write(f"{name}/{data}", b"half")
        shared_storage(bucket.root).upload("step_8-00000000/data/a").write_part(1, b"half")
        shared_storage(bucket.root).upload("somebody/a").write_part(1, b"half")
    bucket.write("step_6-00000000/objects/0123456789ab/0/a", b"it goes on")
    with shared_storage(bucket.root).upload("step_7-00000000/data/b") as upload:
        upload.write_part(1, b"it goes on")
        report = catalog.collect()
    assert report.leftovers == ("step_5-00000000", "step_8-00000000")
    assert {"step_6-00000000", "step_7-00000000", "somebody"} < folders(bucket.root)
    uploads = [found.name for found in shared_storage(bucket.root).abandoned_uploads(0)]
    assert uploads == ["somebody/a"]
    assert check_all(bucket.root) == [1]


def test_how_long_uploads_are_left_alone_is_an_option(bucket: Place) -> None:
    bucket.write("step_5-00000000/data/0123456789ab/0_0.safetensors", b"half")
    assert Catalog(bucket.root).collect().leftovers == ()
    assert Catalog(bucket.root, storage_options={"abandoned_after_s": 0}).collect().leftovers == ("step_5-00000000",)
    assert bucket.files() == {}


def test_a_save_that_is_under_way_is_never_collected(store: WatchedStore, watched: str) -> None:
    reports = []

    def collect_now(asked: Asked) -> None:
        if asked.method == "put" and asked.key.endswith(METADATA_FILE) and not reports:
            reports.append(Catalog(watched, keep_last=1).collect())

    store.before = collect_now
    Catalog(watched).save(1, state(1))
    assert [report.leftovers for report in reports] == [()]
    assert check_all(watched) == [1]


CUT_OFF = pytest.mark.parametrize("is_killed", [False, True], ids=["one request fails", "killed there"])


def cut_off_everywhere(
    prepare: Callable[[str], object],
    operation: Callable[[str], object],
    check: Callable[[str], object],
    is_killed: bool,
) -> int:
    """Calls the operation once for each of its requests, which fails, and with `is_killed` all after it.

    Args:
        prepare: gets the URL of a new catalog.
        operation: gets it then.
        check: gets it afterwards.
        is_killed: whether the program is gone from then on.

    Returns:
        How many requests it makes.
    """
    at, was_cut = 0, True
    while was_cut:
        store = WatchedStore()
        root = serve(store).rpartition("/")[0]
        prepare(root)
        assert COLLECTOR.wait_idle(PATIENCE_S)
        count = 0

        def fail(_: Asked) -> None:
            nonlocal count
            count += 1
            if count - 1 == at or (is_killed and count - 1 > at):  # noqa: B023 - not after this round
                raise OSError(errno.ECONNREFUSED, "cut off")

        store.before = fail
        with suppress(OSError):
            operation(root)
        assert COLLECTOR.wait_idle(PATIENCE_S)
        store.before = lambda asked: None
        check(root)
        was_cut = count > at
        at += 1
    return at - 1


def save_two(root: str) -> None:
    for step in (1, 2):
        Catalog(root).save(step, state(step))


@CUT_OFF
def test_a_collection_that_is_cut_off_at_any_request_leaves_whole_generations_and_the_next_one_ends_it(
    is_killed: bool,
) -> None:
    retention = Retention(keep_last=1)

    def collect_once(root: str) -> None:
        collect(open_catalog_directory(root, None, ONCE), retention)

    def check(root: str) -> None:
        assert check_all(root) in ([1, 2], [2])
        assert restored(Catalog(root)) == 2
        assert Catalog(root).quarantined() == []
        collect(open_catalog_directory(root), retention)
        assert check_all(root) == [2]
        assert len(folders(root)) == 1

    assert cut_off_everywhere(save_two, collect_once, check, is_killed) > 10


@CUT_OFF
def test_a_save_that_is_cut_off_at_any_request_leaves_the_old_generation_or_the_new_one(is_killed: bool) -> None:
    def save(root: str) -> None:
        Catalog(root, keep_last=1, storage_options=ONCE).save(2, state(2))

    def check(root: str) -> None:
        found = restored(Catalog(root))
        assert check_all(root) in ([1], [1, 2], [2])
        assert check_all(root)[-1] == found
        assert Catalog(root).quarantined() == []
        Catalog(root, keep_last=1, storage_options={"abandoned_after_s": 0}).save(3, state(3))
        assert COLLECTOR.wait_idle(PATIENCE_S)
        assert check_all(root) == [3]
        assert len(folders(root)) == 1

    assert cut_off_everywhere(lambda root: Catalog(root).save(1, state(1)), save, check, is_killed) > 10


@CUT_OFF
def test_a_broken_generation_is_passed_over_wherever_its_way_to_quarantine_is_cut_off(is_killed: bool) -> None:
    def prepare(root: str) -> None:
        save_two(root)
        Place(root).flip("0_0.safetensors", below="step_2")

    def restore(root: str) -> None:
        Catalog(root, storage_options=ONCE).restore_latest(state())

    def check(root: str) -> None:
        [broken] = [name for name in folders(root) if name.startswith("step_2")]
        assert restored(Catalog(root)) == 1
        assert [quarantined.name for quarantined in Catalog(root).quarantined()] == [broken]
        collect(open_catalog_directory(root), Retention(keep_last=1))
        assert broken in folders(root)

    assert cut_off_everywhere(prepare, restore, check, is_killed) > 10


def test_what_a_collection_could_not_remove_is_a_warning_and_no_failed_save(
    store: WatchedStore, watched: str, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(asked: Asked) -> None:
        if asked.method == "delete":
            raise PermissionError(errno.EACCES, "refused")

    store.before = refuse
    catalog = Catalog(watched, keep_last=1)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            catalog.save(step, state(step))
        assert COLLECTOR.wait_idle(PATIENCE_S)
    assert catalog.root in caplog.text
    assert check_all(watched) == [1, 2]
    with pytest.raises(PermissionError):
        catalog.collect()


def test_without_the_right_to_list_unfinished_uploads_everything_else_is_collected(
    store: WatchedStore, watched: str
) -> None:
    def refuse(asked: Asked) -> None:
        if asked.method == "pending":
            raise PermissionError(errno.EACCES, "refused")

    store.before = refuse
    catalog = Catalog(watched, keep_last=1)
    for step in (1, 2):
        catalog.save(step, state(step))
    catalog.collect()
    assert check_all(watched) == [2]
    assert len(folders(watched)) == 1


def test_while_the_store_does_not_say_what_the_newest_is_nothing_is_removed(store: WatchedStore, watched: str) -> None:
    for step in (1, 2, 3):
        Catalog(watched).save(step, state(step))
    newest = Catalog(watched).generations()[-1]

    def fail(asked: Asked) -> None:
        if asked.method == "fetch" and newest.id in asked.key:
            raise TimeoutError(errno.ETIMEDOUT, "no answer")

    store.before = fail
    with pytest.raises(StorageError):
        Catalog(watched, keep_last=1, storage_options=ONCE).collect()
    store.before = lambda asked: None
    assert check_all(watched) == [1, 2, 3]


def test_what_a_collection_removes_meanwhile_does_not_come_into_quarantine(store: WatchedStore, watched: str) -> None:
    """A reader has found that something is missing, as a collection has removed it: the rest has to go, too."""
    for step in (1, 2):
        Catalog(watched).save(step, state(step))
    [old, newest] = Catalog(watched).generations()
    reader, collector = open_catalog_directory(watched), open_catalog_directory(watched)

    def collect_now(asked: Asked) -> None:
        if asked.method == "put" and asked.key.endswith(f"{old.id}/.reason"):
            store.before = lambda _: None
            assert collector.discard(old)

    store.before = collect_now
    reader.quarantine(old.id, "something is missing")
    assert reader.quarantined() == []
    Catalog(watched).collect()
    assert folders(watched) == {newest.id}


def test_what_is_removed_while_somebody_looks_is_removed_to_the_end(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(bucket.root)
    first = catalog.save(1, state(1))
    catalog.save(2, state(2))
    assert COLLECTOR.wait_idle(PATIENCE_S)
    directory = open_catalog_directory(bucket.root, None)
    assert directory.newest_record() is not None
    look = records.side_by_side

    def look_and_lose(*arguments: Any) -> Any:
        found = look(*arguments)
        if directory.discard(first):
            monkeypatch.undo()
        return found

    monkeypatch.setattr(records, "side_by_side", look_and_lose)
    assert directory.newest_record() is not None  # began before the removal, and has seen the first
    assert directory.leftovers() == [first.id]
    assert directory.remove(first.id)
    assert folders(bucket.root) == {generation.id for generation in catalog.generations()}

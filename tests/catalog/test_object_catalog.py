"""Catalogs in object stores: what is a generation there, what is broken, and what others see meanwhile."""

from __future__ import annotations

import errno
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch
from places import Place
from watched_store import Asked, WatchedStore

from sucrose import Catalog, Generation, Snapshot, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.errors import ConfigError, CorruptionError, IncompleteSnapshotError, SignatureError, StorageError
from sucrose.formats.generation import GENERATION_FILE, GenerationRecord, encode_generation
from sucrose.formats.manifest import METADATA_FILE
from sucrose.storage.objects import memory
from sucrose.storage.objects.shared import shared_storage

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.any_backend, pytest.mark.usefixtures("idle")]

PATIENCE_S = 60.0


def state(value: float = 0.0) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((1000,), float(value)), words={"some", "words"})}


def restored(catalog: Catalog) -> float:
    found = state()
    assert catalog.restore_latest(found) is not None
    assert found["state"]["tensor"].eq(found["state"]["value"]).all()
    value: float = found["state"]["value"]
    return value


def test_a_generation_has_a_url_and_is_a_snapshot_like_any_other(bucket: Place) -> None:
    generation = Catalog(f"{bucket.root}/").save(7, state(3.0), metrics={"loss": 0.5})
    assert generation.path == f"{bucket.root}/{generation.id}"
    assert generation.snapshot().verify()
    assert Snapshot(generation.path).read_object("0/state/value") == 3.0
    assert Catalog(bucket.root).root == bucket.root
    assert Catalog(bucket.root).generations() == [generation]


def test_what_has_no_commit_record_is_no_generation(bucket: Place) -> None:
    catalog = Catalog(bucket.root)
    kept, half = (catalog.save(step, state(step)) for step in (1, 2))
    bucket.remove(f"{half.id}/{METADATA_FILE}")
    assert catalog.generations() == Catalog(bucket.root).generations() == [kept]
    assert restored(catalog) == 1
    assert catalog.quarantined() == []
    assert catalog.save(1, state(1.5)).timeline == 0  # as if step 2 had never been


def test_others_files_and_copies_of_generations_are_neither_found_nor_touched(bucket: Place) -> None:
    catalog = Catalog(bucket.root, keep_last=1)
    saved = catalog.save(1, state(1))
    for name, data in bucket.files().items():
        bucket.write(name.replace(saved.id, "step_9-01234567"), data)
        bucket.write(name.replace(saved.id, "backup"), data)
    bucket.write("notes.txt", b"mine")
    Snapshot.take(f"{bucket.root}/step_3", state(3))
    before = {name: data for name, data in bucket.files().items() if not name.startswith(saved.id)}
    newer = catalog.save(2, state(2))
    assert COLLECTOR.wait_idle(PATIENCE_S)
    assert catalog.collect().removed == ()
    assert catalog.generations() == [newer]
    assert {name: data for name, data in bucket.files().items() if not name.startswith(newer.id)} == before


@pytest.mark.parametrize("file", ["0_0.safetensors", "words", GENERATION_FILE, METADATA_FILE])
def test_what_was_changed_goes_to_quarantine_where_it_is_and_the_one_before_is_restored(
    bucket: Place, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    catalog = Catalog(bucket.root, keep_last=2)
    kept, broken = (catalog.save(step, state(step)) for step in (1, 2))
    bucket.flip(file, below=broken.id)
    files = bucket.files()
    with caplog.at_level(logging.WARNING):
        assert restored(catalog) == 1
    [quarantined] = Catalog(bucket.root).quarantined()
    assert (quarantined.name, quarantined.path) == (broken.id, broken.path)
    assert quarantined.reason
    assert quarantined.reason in caplog.text
    assert catalog.generations() == [kept]
    for step in (3, 4, 5):  # and nothing of it is ever removed
        catalog.save(step, state(step))
    catalog.collect()
    assert catalog.steps() == [4, 5]
    of_broken = [data for name, data in bucket.files().items() if name.startswith(broken.id)]
    assert all(data in of_broken for name, data in files.items() if name.startswith(broken.id))
    assert Catalog(bucket.root).quarantined() == [quarantined]


def test_a_file_that_is_missing_is_damage_and_the_record_too(bucket: Place) -> None:
    catalog = Catalog(bucket.root)
    saved = [catalog.save(step, state(step)) for step in (1, 2, 3)]
    [data] = [name for name in bucket.files() if name.startswith(saved[2].id) and name.endswith("0_0.safetensors")]
    bucket.remove(data)
    bucket.remove(f"{saved[1].id}/{GENERATION_FILE}")
    assert restored(Catalog(bucket.root)) == 1
    assert {quarantined.name for quarantined in catalog.quarantined()} == {saved[1].id, saved[2].id}


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ETIMEDOUT])
def test_a_store_that_fails_says_nothing_against_a_generation(store: WatchedStore, watched: str, number: int) -> None:
    options = {"attempts": 1}
    Catalog(watched).save(1, state(1))
    Catalog(watched).save(2, state(2))

    def fail(asked: Asked) -> None:
        if asked.key.endswith("0_0.safetensors"):
            raise OSError(number, "the store is out of order")

    store.before = fail
    with pytest.raises(StorageError) as caught:
        Catalog(watched, storage_options=options).restore_latest(state())
    assert caught.value.errno in (number, errno.EACCES)
    store.before = lambda asked: None
    assert Catalog(watched).quarantined() == []
    assert restored(Catalog(watched)) == 2


def commit_and_collect_late(store: WatchedStore, root: str) -> tuple[Generation, Generation]:
    """An older generation that a collection removes as soon as its data are read, for one that is committed then."""
    old, new = (Catalog(root).save(step, state(step)) for step in (1, 2))
    record = f"{new.id}/{METADATA_FILE}"
    data = Place(root).files()[record]
    Place(root).remove(record)

    def collect_first(asked: Asked) -> None:
        if asked.method == "fetch_into" and old.id in asked.key:
            store.before = lambda asked: None
            Place(root).write(record, data)
            assert Catalog(root, keep_last=1).collect().removed == (old,)

    store.before = collect_first
    return old, new


def test_a_generation_that_is_collected_while_it_is_read_is_not_broken_and_a_newer_one_is_restored(
    store: WatchedStore, watched: str
) -> None:
    _, new = commit_and_collect_late(store, watched)
    catalog = Catalog(watched)
    assert restored(catalog) == 2
    assert catalog.generations() == [new]
    assert catalog.quarantined() == []


def test_a_step_that_is_collected_while_it_is_restored_is_an_error_that_says_so(
    store: WatchedStore, watched: str
) -> None:
    old, _ = commit_and_collect_late(store, watched)
    with pytest.raises(IncompleteSnapshotError, match="a collection has removed") as caught:
        Catalog(watched).restore(1, state())
    assert caught.value.path == old.path


def test_a_listing_never_misses_both_the_old_generation_and_its_successor(store: WatchedStore, watched: str) -> None:
    """Three times the only one goes before it is looked at, for one that was not there when names were listed."""
    catalog = Catalog(watched, keep_last=1)
    catalog.save(1, state(1))
    replaced = 0

    def replace_first(asked: Asked) -> None:
        nonlocal replaced
        if asked.method == "size" and asked.key.endswith(METADATA_FILE) and replaced < 3:
            replaced += 1
            store.before = lambda asked: None
            catalog.save(replaced + 1, state(replaced + 1))
            assert COLLECTOR.wait_idle(PATIENCE_S)
            store.before = replace_first

    store.before = replace_first
    [found] = Catalog(watched).generations()
    assert found.step == 4


def test_a_pinned_generation_stays_and_one_that_goes_in_the_meantime_is_not_pinned(
    store: WatchedStore, watched: str
) -> None:
    catalog = Catalog(watched, keep_last=1)
    old = catalog.save(1, state(1))

    def collect_first(asked: Asked) -> None:
        if asked.method == "put" and asked.key.endswith(f"{old.id}.pinned"):
            store.before = lambda asked: None
            catalog.save(2, state(2))
            assert COLLECTOR.wait_idle(PATIENCE_S)

    store.before = collect_first
    with pytest.raises(IncompleteSnapshotError):
        catalog.pin(1)
    catalog.pin(2)
    catalog.save(3, state(3))
    catalog.collect()
    assert catalog.steps() == [2, 3]


def test_generations_that_refer_to_each_other_are_refused_with_the_way_out(bucket: Place) -> None:
    with pytest.raises(ConfigError, match=r"full_every=3.*whole"):
        Catalog(bucket.root, full_every=3)
    catalog = Catalog(bucket.root)
    first = catalog.save(1, state(1), base=None)
    for base in (first, 1, "newest"):
        with pytest.raises(ConfigError, match=r"base=.*whole"):
            catalog.save(2, state(2), base=base)
    assert catalog.steps() == [1]


def test_an_incremental_catalog_that_was_copied_there_is_restored_and_kept_together(
    bucket: Place, tmp_path: Any
) -> None:
    state_ = StateDict(frozen=torch.randn(1000), trained=torch.zeros(1000))
    local = Catalog(tmp_path, full_every=4)
    for step in range(3):
        state_["trained"] += 1
        local.save(step, {"state": state_})
    for name, data in Place(str(tmp_path)).files().items():
        bucket.write(name, data)
    found = StateDict(frozen=torch.zeros(1000), trained=torch.zeros(1000))
    catalog = Catalog(bucket.root, keep_last=1)
    newest = catalog.restore_latest({"state": found})
    assert newest is not None
    assert newest.bases
    assert torch.equal(found["frozen"], state_["frozen"])
    assert torch.equal(found["trained"], state_["trained"])
    report = catalog.collect()
    assert {generation.id for generation in report.needed} == set(newest.bases)
    bucket.flip("0_0.safetensors", below=newest.bases[0])
    with pytest.raises(CorruptionError, match="may have been overwritten"):
        catalog.restore_latest({"state": found})


def test_only_what_is_signed_with_the_key_is_restored(bucket: Place) -> None:
    key = "a signing key of the tests"
    signed = Catalog(bucket.root, signing_key=key).save(1, state(1))
    Catalog(bucket.root).save(2, state(2))
    catalog = Catalog(bucket.root, signing_key=key)
    assert restored(catalog) == 1
    assert catalog.latest() == signed
    assert len(catalog.generations()) == 2
    with pytest.raises(SignatureError):
        Catalog(bucket.root, signing_key="another key of the tests").latest()


def test_options_reach_the_store_and_show_nowhere(bucket: Place) -> None:
    options = {"concurrency": 2, "secret": "very secret"}
    generation = Catalog(bucket.root, storage_options=options).save(1, state(1))
    assert generation.storage_options == options
    assert "secret" not in repr(generation)
    assert generation == Catalog(bucket.root).latest()
    with pytest.raises(ConfigError, match="concurrency"):
        Catalog(bucket.root, storage_options={"concurrency": 0})


def test_options_for_a_directory_are_an_error(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        Catalog(tmp_path, storage_options={"concurrency": 2})


def test_more_generations_than_a_page_of_the_store_has_are_all_found(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_PAGE", 100)
    put_generations(bucket, 1010)
    newest = Catalog(bucket.root).save(1010, state(1010))
    catalog = Catalog(bucket.root)
    assert catalog.steps() == list(range(1011))
    assert catalog.latest() == newest
    assert len(catalog.generations()) == 1011


def put_generations(place: Place, count: int) -> None:
    """Generations as far as a listing looks at them."""
    for step in range(count):
        name = f"step_{step}-{step:08x}"
        record = GenerationRecord(
            format_version=1,
            id=name,
            step=step,
            timeline=0,
            committed_ns=step,
            metrics={},
            pinned=False,
            durable=True,
            nbytes=1,
        )
        place.write(f"{name}/{GENERATION_FILE}", encode_generation(record))
        place.write(f"{name}/{METADATA_FILE}", b"{}")


def test_records_are_read_once_and_side_by_side(store: WatchedStore, watched: str) -> None:
    for step in range(4):
        Catalog(watched).save(step, state(step))
    assert COLLECTOR.wait_idle(PATIENCE_S)  # the collections read records, too
    catalog = Catalog(watched, storage_options={"concurrency": 3})
    all_three = threading.Barrier(3)
    left = list(range(3))

    def wait_for_others(asked: Asked) -> None:
        if asked.method == "size" and left:
            left.pop()
            all_three.wait(PATIENCE_S)

    store.before = wait_for_others
    assert len(catalog.generations()) == 4
    assert not left
    store.asked.clear()
    catalog.save(4, state(4))
    read = [asked.key for asked in store.asked if asked.method == "fetch" and asked.key.endswith(GENERATION_FILE)]
    assert not [key for key in read if "/step_4-" not in key]


def test_two_programs_may_save_into_one_folder_at_once(bucket: Place) -> None:
    pending = [Catalog(bucket.root).async_save(5, state(value)) for value in (1.0, 2.0, 3.0)]
    saved = {save.wait(PATIENCE_S).id for save in pending}
    assert len(saved) == 3
    assert {generation.id for generation in Catalog(bucket.root).generations()} == saved
    assert restored(Catalog(bucket.root)) in (1.0, 2.0, 3.0)


def test_a_folder_that_is_read_only_is_restored_from_and_what_is_broken_there_is_passed_over(
    store: WatchedStore, watched: str, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        newest = Catalog(watched).save(step, state(step))
    place = Place(watched)
    place.flip("0_0.safetensors", below=newest.id)
    store.is_read_only = True
    assert restored(Catalog(watched)) == 1
    assert newest.path in caplog.text
    assert Catalog(watched).quarantined() == []
    assert shared_storage(watched).is_read_only


USES: list[Callable[[Catalog], object]] = [lambda catalog: catalog.latest(), lambda catalog: catalog.save(1, state())]


@pytest.mark.parametrize("use", USES, ids=["latest", "save"])
def test_a_bucket_that_may_not_be_read_is_an_error_and_no_empty_catalog(
    store: WatchedStore, watched: str, use: Callable[[Catalog], object]
) -> None:
    def refuse(asked: Asked) -> None:
        raise PermissionError(errno.EACCES, "refused", asked.key)

    store.before = refuse
    with pytest.raises(PermissionError):
        use(Catalog(watched))

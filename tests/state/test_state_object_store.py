"""States in object stores: settings, trust, and what the next program finds."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

import pytest
import torch
from places import Place, in_memory
from watched_store import Asked, WatchedStore, serve

from sucrose import Catalog, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.errors import ConfigError, CorruptionError, SignatureError, UnsafeObjectError
from sucrose.formats.signing_keys import SIGNING_KEY
from sucrose.state.group import StateManagerGroup
from sucrose.state.object_store import ObjectStoreCheckpoints, WholeStates
from sucrose.state.picklable import PicklableDict
from sucrose.state.values import freeze, thaw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 60.0
KEY = "a signing key of the tests"


class Odd:
    """Something that is restored by a full unpickler only."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd)

    __hash__ = None  # type: ignore[assignment]  # it is equal to all others


@pytest.fixture
def bucket() -> Place:
    return in_memory()


@pytest.fixture(autouse=True)
def idle() -> Iterator[None]:
    yield
    assert COLLECTOR.wait_idle(PATIENCE_S)


@pytest.fixture
def new_run(
    bucket: Place, fresh_process: Callable[[], StateManagerGroup], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], StateManagerGroup]:
    """Starts a process that keeps its states there."""
    monkeypatch.setenv("LATTICE_CHECKPOINT_TYPE", "s3")
    monkeypatch.setenv("LATTICE_CHECKPOINT_CONFIG", f"root={bucket.root}")
    return fresh_process


def save(place: Place, **values: Any) -> None:
    states = {key: freeze(value, key) for key, value in values.items()}
    ObjectStoreCheckpoints(place.root, keep_last=None).save(states)


def thawed(saved: WholeStates | None) -> dict[str, Any]:
    assert saved is not None
    return {key: thaw(saved.read(key), key=key, source="it", distrust=saved.distrust) for key in saved.keys()}  # noqa: SIM118


def test_states_are_found_again_by_the_next_program(new_run: Callable[[], StateManagerGroup], bucket: Place) -> None:
    group = new_run()
    for key in ("progress", "weights", "untouched"):
        group.register(key)
    group.update("progress", PicklableDict(epoch=3))
    group.update("weights", {"layer": torch.arange(5.0), "same": torch.ones(2)})
    group.update("untouched", [1, 2])
    group.save()
    group = new_run()
    group.register("progress")
    assert group.get("progress")["epoch"] == 3
    group.register("weights")
    assert group.get("weights")["layer"].tolist() == [0, 1, 2, 3, 4]
    pending = group.async_save()
    assert pending is not None
    pending.wait(PATIENCE_S)
    group = new_run()
    group.register("untouched")  # carried along by the run before
    assert group.get("untouched") == [1, 2]
    assert Catalog(bucket.root).steps() == [1, 2]


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "hf", "sftp", "memory"])
def test_a_url_of_type_local_is_an_error_that_names_the_type_for_it(
    new_run: Callable[[], StateManagerGroup], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("LATTICE_CHECKPOINT_TYPE", "local")
    monkeypatch.setenv("LATTICE_CHECKPOINT_CONFIG", f"root={scheme}://somewhere/run")
    with pytest.raises(ConfigError, match="LATTICE_CHECKPOINT_TYPE=s3"):
        new_run()


@pytest.mark.parametrize("config", ["", "keep_last=3", "root=/some/folder", "root=fs:///some/folder"])
def test_of_type_s3_a_url_has_to_be_given(
    new_run: Callable[[], StateManagerGroup], monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    monkeypatch.setenv("LATTICE_CHECKPOINT_CONFIG", config)
    with pytest.raises(ConfigError, match="root=s3://BUCKET/PATH"):
        new_run()


@pytest.mark.parametrize("refused", ["page", "put"])
def test_a_place_that_may_not_be_read_and_written_is_refused_at_the_start(
    new_run: Callable[[], StateManagerGroup], monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    store = WatchedStore()

    def refuse(asked: Asked) -> None:
        if asked.method == refused:
            raise PermissionError(errno.EACCES, "refused")

    store.before = refuse
    root = serve(store)
    monkeypatch.setenv("LATTICE_CHECKPOINT_CONFIG", f"root={root}")
    with pytest.raises(PermissionError, match="root=") as caught:
        new_run()
    assert caught.value.filename == root


def test_a_place_for_reading_only_is_refused_at_the_start() -> None:
    store = WatchedStore()
    store.is_read_only = True
    with pytest.raises(PermissionError, match="root="):
        ObjectStoreCheckpoints(serve(store), keep_last=None)


def test_without_a_key_values_that_could_run_code_are_refused_and_not_carried_along(
    new_run: Callable[[], StateManagerGroup], bucket: Place, caplog: pytest.LogCaptureFixture
) -> None:
    save(bucket, odd=Odd(), plain={"epoch": 1, "weights": torch.ones(2)})
    with pytest.raises(UnsafeObjectError, match=SIGNING_KEY) as caught:
        new_run().register("odd")
    assert caught.value.key == "odd"
    assert SIGNING_KEY in caplog.text  # already at the start, before anything was saved in vain
    group = new_run()
    group.register("plain")
    assert group.get("plain")["epoch"] == 1
    group.save()
    assert "odd" in caplog.text
    assert list(thawed(ObjectStoreCheckpoints(bucket.root, keep_last=None).newest())) == ["plain"]


def test_with_a_key_what_is_signed_with_it_is_trusted_and_nothing_else_is_used(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIGNING_KEY, KEY)
    save(bucket, odd=Odd())
    monkeypatch.delenv(SIGNING_KEY)
    save(bucket, odd="somebody else's")
    monkeypatch.setenv(SIGNING_KEY, KEY)
    assert thawed(ObjectStoreCheckpoints(bucket.root, keep_last=None).newest()) == {"odd": Odd()}
    monkeypatch.setenv(SIGNING_KEY, "another key of the tests")
    with pytest.raises(SignatureError):
        ObjectStoreCheckpoints(bucket.root, keep_last=None).newest()


@pytest.mark.parametrize("file", ["0_0.safetensors", ".snapshot_metadata"])
def test_broken_states_go_to_quarantine_and_those_before_are_used(
    bucket: Place, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    for epoch in (1, 2, 3):
        save(bucket, progress={"epoch": epoch})
    newest = Catalog(bucket.root).generations()[-1]
    bucket.flip(file, below=newest.id)
    with caplog.at_level(logging.WARNING):
        assert thawed(ObjectStoreCheckpoints(bucket.root, keep_last=None).newest()) == {"progress": {"epoch": 2}}
    assert newest.id in caplog.text
    assert [quarantined.name for quarantined in Catalog(bucket.root).quarantined()] == [newest.id]


def test_so_many_checkpoints_are_kept_as_the_settings_say(bucket: Place) -> None:
    checkpoints = ObjectStoreCheckpoints(bucket.root, keep_last=2)
    for epoch in range(5):
        checkpoints.save({"progress": freeze(epoch, "progress")})
    assert COLLECTOR.wait_idle(PATIENCE_S)
    assert Catalog(bucket.root).steps() == [4, 5]


def test_states_that_were_found_stay_though_another_program_removes_them(bucket: Place) -> None:
    save(bucket, first=1, second={"weights": torch.ones(3)})
    found = ObjectStoreCheckpoints(bucket.root, keep_last=None).newest()
    assert found is not None
    other = ObjectStoreCheckpoints(bucket.root, keep_last=1)
    other.save({"first": freeze(2, "first")})
    assert COLLECTOR.wait_idle(PATIENCE_S)
    assert Catalog(bucket.root).steps() == [2]
    assert thawed(found)["second"]["weights"].tolist() == [1, 1, 1]


def test_a_state_may_be_read_twice_and_a_missing_one_is_a_key_error(bucket: Place) -> None:
    save(bucket, weights=torch.ones(3))
    found = ObjectStoreCheckpoints(bucket.root, keep_last=None).newest()
    first = thawed(found)["weights"]
    first.zero_()
    assert thawed(found)["weights"].tolist() == [1, 1, 1]
    assert found is not None
    with pytest.raises(KeyError):
        found.read("missing")


def test_a_catalog_that_holds_something_else_is_an_error_and_stays_as_it_is(bucket: Place) -> None:
    generation = Catalog(bucket.root).save(5, {"model": StateDict(weight=torch.ones(2))})
    with pytest.raises(CorruptionError, match="root="):
        ObjectStoreCheckpoints(bucket.root, keep_last=None).newest()
    assert Catalog(bucket.root).generations() == [generation]

"""What is said of a snapshot that is not there: the bucket may be the reason, and one look tells."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from watched_store import Asked, WatchedStore

from sucrose import Snapshot, StateDict
from sucrose.errors import AccessDeniedError, IncompleteSnapshotError
from sucrose.interchange.kinds import recognize
from sucrose.storage.objects import ObjectStorage, StorageOptions, registry

BUCKET = "s3://a-bucket"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> WatchedStore:
    """What answers for all URLs of S3."""
    store = WatchedStore()

    def opener(url: str, options: StorageOptions) -> ObjectStorage:
        return ObjectStorage(store, BUCKET, url.removeprefix(BUCKET).strip("/"), options)

    monkeypatch.setitem(registry._registered, "s3", opener)
    return store


def restore() -> None:
    Snapshot(f"{BUCKET}/run/step_1").restore({"state": StateDict(weight=torch.zeros(3))})


def listings(store: WatchedStore) -> int:
    """Of the snapshot's folder; those of folders in it are for the sizes of files."""
    return store.asked.count(Asked("page", "run/step_1/"))


@pytest.mark.parametrize("read", [restore, lambda: recognize(f"{BUCKET}/run/step_1")], ids=["restore", "command line"])
def test_a_bucket_that_does_not_exist_is_named(store: WatchedStore, read: Callable[[], object]) -> None:
    def refuse(asked: Asked) -> None:
        raise FileNotFoundError(2, "no such key or bucket", asked.key)

    store.before = refuse
    with pytest.raises(IncompleteSnapshotError, match="there is no bucket 'a-bucket'") as raised:
        read()
    assert raised.value.path == f"{BUCKET}/run/step_1"
    assert listings(store) == 1


def test_a_snapshot_that_a_bucket_does_not_have_is_no_missing_bucket(store: WatchedStore) -> None:
    with pytest.raises(IncompleteSnapshotError, match="commit record is missing"):
        restore()
    assert listings(store) == 1


def test_who_may_not_list_a_bucket_is_told_what_is_known_without(store: WatchedStore) -> None:
    def refuse(asked: Asked) -> None:
        if asked.method == "page":
            raise PermissionError(13, "you may not list", asked.key)

    store.before = refuse
    with pytest.raises(IncompleteSnapshotError, match="commit record is missing"):
        restore()
    with pytest.raises(IncompleteSnapshotError, match=r"there is no \.snapshot_metadata"):
        recognize(f"{BUCKET}/run/step_1")


def test_who_may_not_read_gets_an_error_of_permissions_and_no_further_look(store: WatchedStore) -> None:
    def refuse(asked: Asked) -> None:
        raise PermissionError(13, "you may not do that", asked.key)

    store.before = refuse
    with pytest.raises(AccessDeniedError):
        restore()
    assert listings(store) == 0


def test_nobody_looks_for_the_bucket_of_a_snapshot_that_is_there(store: WatchedStore) -> None:
    Snapshot.take(f"{BUCKET}/run/step_1", {"state": StateDict(weight=torch.ones(3))})
    store.asked.clear()
    restore()
    assert listings(store) == 0

"""Where the catalogs of this room are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from places import Place, in_memory
from watched_store import WatchedStore, serve

from sucrose.catalog.background import COLLECTOR

_PATIENCE_S = 60.0


@pytest.fixture(params=["directory", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Runs the test once in each kind of place."""
    return Place(str(tmp_path)) if request.param == "directory" else in_memory()


@pytest.fixture
def root(place: Place) -> str:
    """Path or URL of that."""
    return place.root


@pytest.fixture
def bucket() -> Place:
    """An object store of the test's own."""
    return in_memory()


@pytest.fixture
def store() -> WatchedStore:
    """Another one, whose requests the test sees and fails."""
    return WatchedStore()


@pytest.fixture
def watched(store: WatchedStore) -> str:
    """The URL of a catalog whose requests go through `store`."""
    return serve(store).rpartition("/")[0]


@pytest.fixture
def idle() -> Iterator[None]:
    """Ends with the collections that the test has begun."""
    yield
    assert COLLECTOR.wait_idle(_PATIENCE_S)

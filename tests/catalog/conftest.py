"""Where the catalogs of this room are."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import Place, in_memory


@pytest.fixture(params=["directory", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Runs the test once in each kind of place."""
    return Place(str(tmp_path)) if request.param == "directory" else in_memory()


@pytest.fixture
def root(place: Place) -> str:
    """Path or URL of that."""
    return place.root

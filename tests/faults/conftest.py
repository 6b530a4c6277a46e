"""Engines on which faults are tried."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

import sucrose.engine
from sucrose.engine import make_engine
from sucrose.errors import ConfigError
from sucrose.options import current_options, override_options

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["io_uring", "threads", "reference"])
def each_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test once on a new engine of each kind; the native ones write files of 4 KiB and more directly."""
    kind = "reference" if request.param == "reference" else "native"
    monkeypatch.setenv("SUCROSE_ENGINE", kind)
    if kind == "native":
        try:
            with override_options(
                engine="native", io_backend=request.param, ring_slots=4, workers=2, direct_min_nbytes=4096
            ):
                engine = make_engine(current_options())
        except ConfigError as error:
            pytest.skip(f"no such backend here: {error}")
        monkeypatch.setitem(sucrose.engine._shared, "native", engine)
    return str(request.param)


@pytest.fixture
def quick_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: for tests that save a hundred times."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)

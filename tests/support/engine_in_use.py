"""Another engine than the process's own, for as long as a test takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sucrose.engine
from sucrose.options import current_options

if TYPE_CHECKING:
    import pytest

    from sucrose.engine import Engine


def put_to_use(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `engine` the one that snapshots are taken and restored with."""
    monkeypatch.setitem(sucrose.engine._shared, current_options().engine, engine)

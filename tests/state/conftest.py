"""A process after another, within one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sucrose.state import base_manager as base_manager_module
from sucrose.state import group as group_module
from sucrose.state.configured import configured_checkpoints, configured_settings
from sucrose.state.group import StateManagerGroup


@pytest.fixture
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], StateManagerGroup]]:
    """Makes what a process has one of, as if another process had been started; it has no triggers."""
    monkeypatch.setattr(group_module, "install", lambda saver, settings: None)

    def start() -> StateManagerGroup:
        forget()
        return StateManagerGroup()

    def forget() -> None:
        configured_settings.cache_clear()
        configured_checkpoints.cache_clear()
        StateManagerGroup._of_process = None
        base_manager_module._managers.clear()

    yield start
    forget()

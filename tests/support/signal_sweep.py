"""Something happens at the points at which Python handles signals: one after another, not by luck."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sucrose.snapshot.process_end import COMMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

PATIENCE_S = 60.0


class At:
    """Calls `handle` in this thread once, at the point number `moment`, as Python calls a signal handler.

    It does so when a function begins, and when a call of a built-in one has returned.
    """

    current: At

    def __init__(self, moment: int, handle: Callable[[], None]) -> None:
        self.came = False
        self._left = moment
        self._handle = handle

    def __enter__(self) -> None:
        At.current = self
        sys.setprofile(_count)

    def __exit__(self, *exception: object) -> None:
        sys.setprofile(None)

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            self.came = True
            self._handle()


def _count(frame: FrameType, event: str, argument: object) -> None:
    # A function that lives for ever: Python lets go of the profile function while it raises.
    if event in ("call", "c_return") and frame.f_code is not At.__exit__.__code__:
        At.current.step()


def ctrl_c() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def lost() -> Iterator[list[object]]:
    """Ctrl-C that Python could not raise, as in a finalizer."""
    before, found = sys.unraisablehook, []

    def note(unraisable: Any) -> None:  # also warnings of files that were opened, and left to the interpreter
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            found.append(unraisable.object)

    sys.unraisablehook = note
    yield found
    sys.unraisablehook = before
    torch.set_grad_enabled(True)  # torch.no_grad does not always survive Ctrl-C


def wait_for_all() -> None:
    """Returns when no save is under way in this process."""
    for queued in COMMITS.under_way():
        assert COMMITS.wait_ended(queued, PATIENCE_S)

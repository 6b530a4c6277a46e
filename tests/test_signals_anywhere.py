"""Signals at the points of a save at which Python handles them: one after another, not by luck."""

from __future__ import annotations

import gc
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from sucrose import Snapshot, StateDict
from sucrose.snapshot.process_end import COMMITS
from sucrose.snapshot.thread_start import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
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


def state(value: float) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((1000,), value), words={"a", "b"})}


def wait_for_all() -> None:
    for queued in COMMITS.under_way():
        assert COMMITS.wait_ended(queued, PATIENCE_S)


def take(path: Path, value: float) -> None:
    Snapshot.take(path, state(value), overwrite=True, durable=False)


def async_take(path: Path, value: float) -> None:
    Snapshot.async_take(path, state(value), overwrite=True, durable=False).wait(PATIENCE_S)


@pytest.mark.parametrize(("save", "engine"), [(take, "native"), (async_take, "native"), (async_take, "reference")])
def test_ctrl_c_leaves_the_old_snapshot_or_the_new_one_and_is_heard(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: list[object],
    save: Callable[[Path, float], None],
    engine: str,
) -> None:
    monkeypatch.setenv("SUCROSE_ENGINE", engine)
    path = tmp_path / "s"
    save(path, 0.0)
    wait_for_all()
    after, moment, came = 0.0, 0, True
    while came:
        moment += 3  # not each: there are thousands, and neighbours differ little
        before, after = after, float(moment)
        interrupted = False
        signal = At(moment, ctrl_c)
        try:
            with signal:
                save(path, after)
        except KeyboardInterrupt:
            interrupted = True
        came = signal.came
        wait_for_all()
        assert interrupted is came
        assert [entry.name for entry in tmp_path.iterdir()] == ["s"], moment
        found = Snapshot(path).get_state_dict_for_key("state", allow_pickle=True)
        assert found["value"] == after or (interrupted and found["value"] == before), moment
        assert found["tensor"].eq(found["value"]).all()
        after = found["value"]
    assert not lost
    assert threading.main_thread().is_alive()
    save(path, 1.5)
    wait_for_all()
    assert Snapshot(path).read_object("0/state/value") == 1.5


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_handler_may_save_and_wait_in_the_middle_of_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    monkeypatch.setenv("SUCROSE_ENGINE", engine)
    moment, came = 0, True
    while came:
        moment += 7
        signal = At(moment, lambda: async_take(tmp_path / "of the handler", -1.0))
        with signal:
            async_take(tmp_path / "s", float(moment))
        came = signal.came
    assert Snapshot(tmp_path / "s").read_object("0/state/value") == moment
    assert Snapshot(tmp_path / "of the handler").verify()


def test_ctrl_c_anywhere_in_the_start_of_a_thread_leaves_no_thread_that_never_ends() -> None:
    ran: list[int] = []
    left = 0

    def raise_at_last(frame: object, event: str, argument: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    was_interrupted = True
    moments = 0
    while was_interrupted:
        moments += 1
        left = moments
        gc.disable()  # what it calls is other tests' garbage, where nobody hears of Ctrl-C
        sys.setprofile(raise_at_last)
        try:
            start_thread(partial(ran.append, moments), "started-anywhere")
            left = 0
            was_interrupted = False
        except KeyboardInterrupt:
            pass
        finally:
            sys.setprofile(None)
            gc.enable()
    deadline = time.monotonic() + 20
    while any(thread.name == "started-anywhere" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "started-anywhere"]
    assert ran[-1] == moments
    assert moments > 3

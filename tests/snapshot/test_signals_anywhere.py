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
from signal_sweep import PATIENCE_S, At, ctrl_c, lost, wait_for_all

from sucrose import Snapshot, StateDict
from sucrose.snapshot.thread_start import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.any_backend

__all__ = ["lost"]  # a fixture


def state(value: float) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((1000,), value), words={"a", "b"})}


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
    deadline = time.monotonic() + 60
    while any(thread.name == "started-anywhere" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "started-anywhere"]
    assert moments in ran  # and those of earlier moments in any order
    assert moments > 3

"""The commit of a directory when its last steps fail."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
import torch

import sucrose
from sucrose import Snapshot, StateDict
from sucrose.engine import get_engine
from sucrose.errors import NotDurableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.any_backend

PATIENCE_S = 60.0


def state(value: float) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((1000,), value))}


def value_at(path: str | Path) -> float:
    snapshot = Snapshot(path)
    assert snapshot.verify()
    value: float = snapshot.read_object("0/state/value")
    return value


@pytest.fixture
def parent_cannot_be_fsynced(each_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = type(get_engine())
    sync = engine.sync

    def fail(self: Any, paths: Sequence[str]) -> None:
        if str(tmp_path) in paths:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path))
        sync(self, paths)

    monkeypatch.setattr(engine, "sync", fail)


def take(path: Path, value: float) -> None:
    Snapshot.take(path, state(value), overwrite=True)


def async_take(path: Path, value: float) -> None:
    pending = Snapshot.async_take(path, state(value), overwrite=True)
    try:
        pending.wait(PATIENCE_S)
    finally:
        assert not pending.cancel()  # it is in place


@pytest.mark.usefixtures("parent_cannot_be_fsynced")
@pytest.mark.parametrize("save", [take, async_take])
def test_a_snapshot_that_is_perhaps_not_durable_is_in_place_and_the_old_one_is_kept(
    tmp_path: Path, save: Callable[[Path, float], None]
) -> None:
    path = tmp_path / "s"
    Snapshot.take(path, state(1.0), durable=False)
    with pytest.raises(NotDurableError, match="in place") as caught:
        save(path, 2.0)
    assert caught.value.errno == errno.EIO
    assert caught.value.path == str(path)
    assert value_at(path) == 2.0
    kept, _ = sorted(tmp_path.iterdir())
    assert str(kept) in str(caught.value)
    assert value_at(kept) == 1.0


@pytest.mark.usefixtures("parent_cannot_be_fsynced")
def test_a_first_snapshot_that_is_perhaps_not_durable_leaves_nothing_hidden(tmp_path: Path) -> None:
    with pytest.raises(NotDurableError, match="in place"):
        Snapshot.take(tmp_path / "s", state(1.0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
    assert value_at(tmp_path / "s") == 1.0


@pytest.mark.usefixtures("parent_cannot_be_fsynced")
def test_a_single_file_that_is_perhaps_not_durable_is_in_place(tmp_path: Path) -> None:
    with pytest.raises(NotDurableError, match="in place") as caught:
        sucrose.save(torch.ones(3), tmp_path / "weights.pt")
    assert caught.value.path == str(tmp_path / "weights.pt")
    assert sucrose.load(tmp_path / "weights.pt").eq(1).all()


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that cannot exchange two directories in one step."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())


@pytest.mark.usefixtures("no_exchange")
@pytest.mark.parametrize("error", [OSError(errno.EIO, "disk"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_without_exchange_a_commit_that_fails_midway_leaves_one_whole_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, when: str, step: int
) -> None:
    path = tmp_path / "s"
    Snapshot.take(path, state(1.0))
    rename = os.rename
    calls = 0

    def fail(source: str, target: str) -> None:
        nonlocal calls
        calls += 1
        if calls != step or when == "after":
            rename(source, target)
        if calls == step:
            raise error

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(type(error)):
        Snapshot.take(path, state(2.0), overwrite=True)
    monkeypatch.undo()
    assert value_at(path) == (2.0 if (step, when) in ((2, "after"), (3, "before"), (3, "after")) else 1.0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


@pytest.mark.usefixtures("no_exchange")
def test_without_exchange_a_snapshot_is_replaced(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        Snapshot.take(tmp_path / "s", state(value), overwrite=True)
    assert value_at(tmp_path / "s") == 2.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]

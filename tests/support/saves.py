"""Every way of saving, in one shape: for tests that let the same things go wrong in each of them."""

from __future__ import annotations

import gc
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from scenario_checkpoints import contents_of, names_in, record_of, value_of

import sucrose
from sucrose import Catalog, Retention, Snapshot, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.scenarios.checkpoints import CheckpointFolder
from sucrose.state.local import LocalCheckpoints
from sucrose.state.values import freeze, thaw

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE_S = 60.0
NUMEL = 1200


@dataclass(frozen=True, slots=True)
class Save:
    """One way of saving, into a folder that belongs to it.

    Attributes:
        save: puts a value there that takes the place of the one before. Values are 1, 2, 3, …
        found: the value that is there, whole; None for nothing. Raises where it is damaged.
    """

    name: str
    save: Callable[[Path, int], object]
    found: Callable[[Path], int | None]

    def __str__(self) -> str:
        return self.name


def state(value: int) -> dict[str, Any]:
    """Tensors, a primitive and an object, all of which tell the value."""
    return {
        "state": StateDict(tensor=torch.full((NUMEL,), value), small=torch.full((3,), float(value)), value=value),
        "other": StateDict(object={value, "é"}),
    }


def value_in(snapshot: Snapshot) -> int:
    """What `state` was given; all of the snapshot says the same."""
    found = state(0)
    snapshot.restore(found, allow_pickle=True)
    value: int = found["state"]["value"]
    assert found["state"]["tensor"].eq(value).all()
    assert found["state"]["small"].eq(value).all()
    assert found["other"]["object"] == {value, "é"}
    return value


def _found_snapshot(folder: Path) -> int | None:
    if not (folder / "s").exists():
        return None
    return value_in(Snapshot(folder / "s"))


def _take(folder: Path, value: int) -> None:
    Snapshot.take(folder / "s", state(value), overwrite=True)


def _async_take(folder: Path, value: int) -> None:
    Snapshot.async_take(folder / "s", state(value), overwrite=True).wait(PATIENCE_S)


def _new_take(folder: Path, value: int) -> None:
    shutil.rmtree(folder / f"step_{value - 3}", ignore_errors=True)  # so that hundreds do not pile up
    Snapshot.take(folder / f"step_{value}", state(value))


def _found_newest(folder: Path) -> int | None:
    paths = sorted(folder.glob("step_*"), key=lambda path: int(path.name.partition("_")[2]))
    return max((value_in(Snapshot(path)) for path in paths[-2:]), default=None)


def _save_file(folder: Path, value: int) -> None:
    sucrose.save({"tensor": torch.full((NUMEL,), value), "value": value}, folder / "weights.pt")


def _found_file(folder: Path) -> int | None:
    if not (folder / "weights.pt").exists():
        return None
    loaded = sucrose.load(folder / "weights.pt")
    assert loaded["tensor"].eq(loaded["value"]).all()
    value: int = loaded["value"]
    return value


def _catalog(folder: Path) -> Catalog:
    return Catalog(folder / "run", keep_last=1)


def _catalog_save(folder: Path, value: int) -> None:
    try:
        _catalog(folder).save(value, state(value), progress=False)
    finally:
        COLLECTOR.wait_idle()


def _found_in_catalog(folder: Path) -> int | None:
    found = state(0)
    generation = _catalog(folder).restore_latest(found, allow_pickle=True)
    if generation is None:
        return None
    assert value_in(generation.snapshot()) == generation.step
    return generation.step


def _save_states(folder: Path, value: int) -> None:
    checkpoints = LocalCheckpoints(str(folder / "states"), keep_last=1)
    try:
        checkpoints.save({"a": freeze({"value": value}, "a"), "b": freeze(torch.full((NUMEL,), value), "b")})
    finally:
        COLLECTOR.wait_idle()


def _found_states(folder: Path) -> int | None:
    newest = LocalCheckpoints(str(folder / "states"), keep_last=1).newest()
    if newest is None:
        return None
    a, b = (
        thaw(newest.read(key), key=key, source=str(folder), distrust=newest.distrust) for key in sorted(newest.keys())
    )
    newest.close()
    assert b.eq(a["value"]).all()
    value: int = a["value"]
    return value


def _write_checkpoint(folder: Path, value: int) -> None:
    checkpoints = CheckpointFolder(names_in(folder / "checkpoints"), Retention(keep_last=1))
    try:
        checkpoints.write(contents_of(value, NUMEL), record_of(value))
    finally:
        checkpoints.close()


def _found_checkpoint(folder: Path) -> int | None:
    loaded = CheckpointFolder(names_in(folder / "checkpoints"), Retention(keep_last=1)).read()
    return None if loaded is None else int(value_of(loaded.contents))


SAVES = [
    Save("take", _new_take, _found_newest),
    Save("take over an old one", _take, _found_snapshot),
    Save("async_take over an old one", _async_take, _found_snapshot),
    Save("single file", _save_file, _found_file),
    Save("catalog", _catalog_save, _found_in_catalog),
    Save("states", _save_states, _found_states),
    Save("scenario checkpoint", _write_checkpoint, _found_checkpoint),
]


def hidden_in(folder: Path) -> list[str]:
    """What saves have left under hidden names."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*.tmp-*"))


def open_files_and_threads() -> tuple[list[str], set[str]]:
    """What this process has open, and the names of Python's threads."""
    gc.collect()
    opened = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the listing itself
            opened.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(opened), {thread.name for thread in threading.enumerate()}

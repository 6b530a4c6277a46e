"""Ctrl-C and signal handlers that save, at the points of a catalog's save at which Python handles signals."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from signal_sweep import At, ctrl_c, lost, wait_for_all

from sucrose import Catalog, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.catalog.local import directory as directory_module
from sucrose.catalog.local.listing import generation_names

pytestmark = pytest.mark.any_backend

PATIENCE_S = 60.0

__all__ = ["lost"]  # a fixture


def state(value: float = 0.0) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((100,), float(value)))}


def value_at(root: Path) -> float:
    found = state()
    assert Catalog(root).restore_latest(found) is not None
    value: float = found["state"]["value"]
    assert found["state"]["tensor"].eq(value).all()
    return value


def rest(root: Path) -> set[str]:
    """What is in the folder and is no generation."""
    assert COLLECTOR.wait_idle(PATIENCE_S)
    return set(os.listdir(root)) - set(generation_names(str(root))) - {".trash"}


@pytest.mark.parametrize("in_background", [False, True])
def test_ctrl_c_leaves_the_old_generation_or_the_new_one_and_is_heard(
    tmp_path: Path, lost: list[object], in_background: bool
) -> None:
    catalog = Catalog(tmp_path, keep_last=1)

    def save(step: int) -> None:
        if in_background:
            catalog.async_save(step, state(step), durable=False).wait(PATIENCE_S)
        else:
            catalog.save(step, state(step), durable=False)

    save(0)
    after, moment, came = 0.0, 0, True
    while came:
        moment += 5
        before, after = after, float(moment)
        interrupted = False
        signal = At(moment, ctrl_c)
        try:
            with signal:
                save(moment)
        except KeyboardInterrupt:
            interrupted = True
        came = signal.came
        wait_for_all()
        assert interrupted is came
        found = value_at(tmp_path)
        assert found == after or (interrupted and found == before), moment
        assert rest(tmp_path) == set(), moment
        catalog.collect()  # or what a save has to do would grow with the moments
        after = found
    assert not lost
    assert catalog.quarantined() == []


def test_a_handler_may_save_restore_and_collect_in_the_middle_of_a_save(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, keep_last=2)
    moment, came = 0, True

    def handle() -> None:
        catalog.save(moment, state(-1.0), durable=False)
        assert value_at(tmp_path) == -1.0
        catalog.collect()

    while came:
        moment += 19
        signal = At(moment, handle)
        with signal:
            catalog.async_save(moment, state(moment), durable=False).wait(PATIENCE_S)
        came = signal.came
    assert value_at(tmp_path) == moment
    assert rest(tmp_path) == set()


def test_a_listing_never_misses_both_the_old_generation_and_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one goes after its name was read, when the new one was not there yet."""
    catalog = Catalog(tmp_path)
    old = catalog.save(1, state(1.0))
    again = Catalog(tmp_path)
    names_of = directory_module.generation_names

    def replaced_meanwhile(root: str) -> list[str]:
        monkeypatch.undo()
        names = names_of(root)
        catalog.save(2, state(2.0))
        shutil.rmtree(old.path)
        return names

    for use in (again.latest, lambda: again.save(1, state(3.0))):
        monkeypatch.setattr(directory_module, "generation_names", replaced_meanwhile)
        found = use()
        assert found is not None
        old = found
    assert found.timeline == 1  # as the step is lower than the successor's

"""Catalogs whose generations refer to each other: nothing goes that another one needs."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same

from sucrose import Catalog, Snapshot, StateDict
from sucrose.catalog import collecting
from sucrose.errors import ConfigError, IncompleteSnapshotError

if TYPE_CHECKING:
    from pathlib import Path

    from sucrose.catalog.directory import CatalogDirectory
    from sucrose.catalog.generation import Generation


def new_state() -> StateDict:
    return StateDict(frozen=torch.randn(1000), trained=torch.zeros(1000))


def restored(catalog: Catalog) -> dict[str, Any]:
    state = StateDict(frozen=torch.ones(1000), trained=torch.ones(1000))
    catalog.restore_latest({"state": state})
    return dict(state)


def save(catalog: Catalog, step: int, state: StateDict, **arguments: Any) -> Generation:
    state["trained"] += 1
    return catalog.save(step, {"state": state}, **arguments)


def test_every_nth_save_is_whole_across_programs(tmp_path: Path) -> None:
    state = new_state()
    found = []
    for step in range(7):
        catalog = Catalog(tmp_path, full_every=3)  # as after a restart
        found.append(save(catalog, step, state).bases)
        assert_same(restored(catalog), dict(state))
    whole = [step for step, bases in enumerate(found) if not bases]
    assert whole == [0, 3, 6]


def test_without_the_option_every_save_is_whole_and_a_base_may_be_named(tmp_path: Path) -> None:
    state, catalog = new_state(), Catalog(tmp_path)
    first = save(catalog, 1, state)
    assert save(catalog, 2, state).bases == ()
    for base in (first, 1):
        assert save(catalog, 3, state, base=base).bases == (first.id,)
    newest = save(catalog, 4, state, base="newest")
    assert newest.bases == (first.id,)
    assert catalog.async_save(5, {"state": state}, base="newest").wait().bases == (first.id, newest.id)
    assert save(Catalog(tmp_path, full_every=9), 6, state, base=None).bases == ()


def test_what_is_no_base_is_refused(tmp_path: Path) -> None:
    state, catalog = new_state(), Catalog(tmp_path / "a", keep_last=1)
    with pytest.raises(IncompleteSnapshotError):
        save(catalog, 1, state, base=7)
    elsewhere = save(Catalog(tmp_path / "b"), 1, state)
    with pytest.raises(ValueError, match="is no generation of"):
        save(catalog, 1, state, base=elsewhere)
    with pytest.raises(ValueError, match="newest"):
        save(catalog, 1, state, base="latest")
    with pytest.raises(TypeError, match="is a Snapshot, expected a whole number"):
        save(catalog, 1, state, base=elsewhere.snapshot())
    gone = save(catalog, 1, state)
    save(catalog, 2, state)
    catalog.collect()
    with pytest.raises(IncompleteSnapshotError):
        save(catalog, 3, state, base=gone)
    assert catalog.steps() == [2]
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(ConfigError, match="full_every"):
            Catalog(tmp_path, full_every=wrong)  # type: ignore[arg-type]


def test_retention_leaves_what_is_needed_and_removes_it_with_the_last_that_needs_it(tmp_path: Path) -> None:
    state, catalog = new_state(), Catalog(tmp_path, keep_last=1, full_every=4)
    for step in range(4):
        save(catalog, step, state)
        report = catalog.collect()
        assert catalog.steps() == ([0] if step == 0 else [0, step])
        assert [generation.step for generation in report.needed] == ([] if step == 0 else [0])
    save(catalog, 4, state)
    catalog.collect()
    assert catalog.steps() == [4]


def test_pinned_and_leased_generations_keep_what_they_need(tmp_path: Path) -> None:
    state, catalog = new_state(), Catalog(tmp_path, keep_last=1)
    save(catalog, 0, state)
    save(catalog, 1, state, base="newest", pinned=True)
    save(catalog, 2, state)
    catalog.collect()
    assert catalog.steps() == [0, 1, 2]
    lease = catalog.generations()[1].lease()
    assert lease is not None
    with lease:
        catalog.unpin(1)
        report = catalog.collect()
        assert sorted(generation.step for generation in report.in_use) == [0, 1]
        assert catalog.steps() == [0, 1, 2]
    assert [generation.step for generation in catalog.collect().removed] == [0, 1]


def test_a_dry_run_tells_what_a_collection_removes(tmp_path: Path) -> None:
    state = new_state()
    catalog = Catalog(tmp_path)
    for step in range(4):
        save(catalog, step, state, base="newest")
    save(catalog, 4, state)
    narrow = Catalog(tmp_path, keep_last=1)
    foreseen = [generation.step for generation in narrow.collect(dry_run=True).removed]
    assert foreseen == [generation.step for generation in narrow.collect().removed] == [0, 1, 2, 3]


def test_a_snapshot_elsewhere_keeps_what_it_refers_to(tmp_path: Path) -> None:
    state, catalog = new_state(), Catalog(tmp_path / "runs", keep_last=1)
    first = save(catalog, 0, state)
    outside = Snapshot.take(tmp_path / "release", {"state": state}, base=first.path)
    save(catalog, 1, state)
    assert catalog.collect(dry_run=True).removed == ()
    assert [generation.step for generation in catalog.collect().in_use] == [0]
    assert outside.verify()
    outside.flatten()
    assert [generation.step for generation in catalog.collect().removed] == [0]
    assert outside.verify()


def test_a_generation_that_is_committed_during_a_collection_keeps_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, catalog = new_state(), Catalog(tmp_path)
    first = save(catalog, 0, state)
    save(catalog, 1, state)
    narrow = Catalog(tmp_path, keep_last=1)

    def late(directory: CatalogDirectory) -> Any:
        listed = list_with_lease(directory)
        save(catalog, 2, state, base=first)
        return listed

    list_with_lease = collecting._list_with_lease
    monkeypatch.setattr(collecting, "_list_with_lease", late)
    report = narrow.collect()
    assert [generation.step for generation in report.in_use] == [0]
    assert catalog.latest(verify=True) is not None
    assert_same(restored(catalog), dict(state))


BETWEEN_PLAN_AND_COMMIT = """
import sys
import torch
from sucrose import StateDict
from sucrose.snapshot.take_request import TakeRequest, _start

target, base = sys.argv[1:]
started = _start(TakeRequest(path=target, app_state={"state": StateDict(zeros=torch.zeros(1000))}, base=base))
print("planned", flush=True)
if sys.stdin.readline():
    started.wait_written()
    started.commit()
"""


@pytest.mark.parametrize("is_killed", [False, True], ids=["goes on", "is killed"])
def test_a_base_is_there_while_another_process_plans_to_refer_to_it(tmp_path: Path, is_killed: bool) -> None:
    catalog = Catalog(tmp_path / "runs", keep_last=1)
    first = catalog.save(0, {"state": StateDict(zeros=torch.zeros(1000))})
    target = tmp_path / "runs" / "step_1-0123abcd"
    program = [sys.executable, "-c", BETWEEN_PLAN_AND_COMMIT, str(target), first.path]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "planned\n"
        catalog.save(2, {"state": new_state()})
        assert [generation.step for generation in catalog.collect().in_use] == [0]
        if is_killed:
            other.kill()
        else:
            other.stdin.write("\n")
    report = catalog.collect()
    if is_killed:
        assert [generation.step for generation in report.removed] == [0]
        assert not target.exists()
    else:
        assert [generation.step for generation in report.in_use] == [0]
        assert Snapshot(target).bases == (first.path,)
        assert Snapshot(target).verify()


def test_a_flat_generation_needs_no_other_any_more(tmp_path: Path) -> None:
    state, catalog = new_state(), Catalog(tmp_path, keep_last=1)
    whole = save(catalog, 0, state)
    save(catalog, 1, state, base="newest").snapshot().flatten()
    flat = catalog.generations()[-1]
    assert flat.bases == ()
    assert flat.nbytes > 0.9 * whole.nbytes  # what its removal would free now
    catalog.collect()
    assert catalog.steps() == [1]
    assert_same(restored(catalog), dict(state))


def test_a_damaged_base_takes_those_that_need_the_damage_with_it(tmp_path: Path) -> None:
    state, catalog = new_state(), Catalog(tmp_path)
    save(catalog, 0, state)
    expected = {key: value.clone() for key, value in state.items()}
    broken = save(catalog, 1, state)
    save(catalog, 2, state, base="newest")
    file = os.path.join(broken.path, "data", "0_0.safetensors")
    flip_last_byte_of(file, "0/state/frozen", broken)
    assert_same(restored(catalog), expected)
    assert catalog.steps() == [0]
    assert [one.name.partition("-")[0] for one in catalog.quarantined()] == ["step_1", "step_2"]


def test_a_base_that_others_can_do_with_is_not_taken_from_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state, catalog = new_state(), Catalog(tmp_path)
    base = save(catalog, 0, state)
    save(catalog, 1, state, base="newest")
    with open(os.path.join(base.path, ".generation"), "ab") as file:
        file.write(b"damage of what only the catalog needs")
    with caplog.at_level(logging.WARNING, logger="sucrose"):
        assert_same(restored(catalog), dict(state))
    assert "as others refer to it" in caplog.text
    assert catalog.quarantined() == []
    assert_same(restored(catalog), dict(state))


def test_a_missing_base_is_damage_and_saves_go_on_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state, catalog = new_state(), Catalog(tmp_path, full_every=9)
    base = save(catalog, 0, state)
    save(catalog, 1, state)
    shutil.rmtree(base.path)
    with caplog.at_level(logging.WARNING, logger="sucrose"):
        assert save(catalog, 2, state).bases == ()
    assert "cannot be referred to" in caplog.text
    assert_same(restored(catalog), dict(state))
    assert save(catalog, 3, state).bases != ()


def test_nothing_older_is_removed_while_the_newest_lacks_its_base(tmp_path: Path) -> None:
    state, catalog = new_state(), Catalog(tmp_path)
    save(catalog, 0, state)
    base = save(catalog, 1, state)
    save(catalog, 2, state, base="newest")
    shutil.rmtree(base.path)
    report = Catalog(tmp_path, keep_last=1).collect()
    assert report.blocked is not None
    assert "which is not there any more" in report.blocked
    assert catalog.steps() == [0, 2]


def flip_last_byte_of(file: str, path: str, generation: Generation) -> None:
    entry = generation.snapshot().get_manifest()[path]
    end = entry.byte_range[1]  # type: ignore[union-attr]
    with open(file, "r+b") as opened:
        opened.seek(end - 1)
        byte = opened.read(1)[0]
        opened.seek(end - 1)
        opened.write(bytes([byte ^ 1]))

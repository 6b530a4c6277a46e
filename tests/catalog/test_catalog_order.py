"""A catalog finds the newest generation by step and commit, whatever names and times of files say."""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from sucrose import Catalog, Snapshot, StateDict
from sucrose.catalog import pending
from sucrose.errors import CancelledError, ConfigError, FormatVersionError, IncompleteSnapshotError
from sucrose.formats.generation import GENERATION_FILE
from sucrose.snapshot.take import StartedTake

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.any_backend

PATIENCE_S = 60.0


def state(value: float = 0.0) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((100,), float(value)))}


def newest_value(root: str | Path) -> float:
    found = state()
    assert Catalog(root).restore_latest(found) is not None
    value: float = found["state"]["value"]
    assert found["state"]["tensor"].eq(value).all()
    return value


def test_what_was_saved_last_is_restored(root: str) -> None:
    catalog = Catalog(f"{root}/new/folder")
    assert catalog.restore_latest(state()) is None
    assert catalog.latest() is None
    assert catalog.steps() == []
    saved = [catalog.save(step, state(step)) for step in (1, 2, 10)]
    assert catalog.steps() == [1, 2, 10]
    assert catalog.generations() == saved
    assert catalog.latest() == catalog.latest(verify=True) == saved[-1]
    found = state()
    assert catalog.restore_latest(found) == saved[-1]
    assert found["state"]["value"] == 10


def test_a_generation_is_a_snapshot_that_verifies(tmp_path: Path) -> None:
    generation = Catalog(tmp_path).save(7, state(3.0), metrics={"loss": 0.5})
    assert generation.snapshot().verify()
    assert Snapshot(generation.path).read_object("0/state/value") == 3.0
    files = [os.path.join(folder, file) for folder, _, files in os.walk(generation.path) for file in files]
    assert 0 < generation.nbytes < sum(map(os.path.getsize, files))
    with open(os.path.join(generation.path, GENERATION_FILE), "r+b") as file:
        file.write(b"[")
    assert not generation.snapshot().verify()


def test_the_original_torchsnapshot_members_are_those_of_any_snapshot(tmp_path: Path) -> None:
    generation = Catalog(tmp_path / "catalog").save(7, state(3.0))
    snapshot = Snapshot.take(tmp_path / "plain", state(3.0))
    assert generation.snapshot().get_manifest() == snapshot.get_manifest()


def test_ten_thousand_comes_after_9999(root: str) -> None:
    for step in (9998, 9999, 10000):
        Catalog(root).save(step, state(step))
    assert newest_value(root) == 10000
    assert Catalog(root).steps() == [9998, 9999, 10000]


def test_of_equal_steps_the_later_commit_is_newer_even_if_the_clock_went_back(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Catalog(root).save(5, state(1.0))
    monkeypatch.setattr(time, "time_ns", lambda: 10**18)
    Catalog(root).save(5, state(2.0))
    Catalog(root).save(5, state(3.0))
    assert newest_value(root) == 3.0
    assert Catalog(root).steps() == [5]


def test_of_equal_steps_in_the_background_the_later_call_is_newer_even_if_the_clock_goes_back(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(root)
    begun = threading.Event()
    commit = StartedTake.commit

    def wait_until_both_are_begun(take: StartedTake) -> Any:
        assert begun.wait(PATIENCE_S)
        return commit(take)

    clock = iter(range(10**18, 0, -1000))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    monkeypatch.setattr(StartedTake, "commit", wait_until_both_are_begun)
    first, second = (catalog.async_save(5, state(value)) for value in (1.0, 2.0))
    begun.set()
    assert first.wait(PATIENCE_S).committed_ns < second.wait(PATIENCE_S).committed_ns
    assert newest_value(root) == 2.0


def test_a_program_that_was_set_back_finds_its_own_state_again(root: str) -> None:
    for step in (100, 200, 300):
        Catalog(root).save(step, state(step))
    Catalog(root).restore(100, state())
    assert Catalog(root).save(150, state(-150.0)).timeline == 1
    assert newest_value(root) == -150
    assert Catalog(root).save(250, state(-250.0)).timeline == 1
    assert newest_value(root) == -250
    assert Catalog(root).steps() == [100, 150, 200, 250, 300]


def test_pending_saves_count_when_a_step_goes_back(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(root)
    commit = StartedTake.commit
    held = []

    def wait_until_both_are_begun(take: StartedTake) -> Any:
        while len(held) < 2:
            time.sleep(0.001)
        return commit(take)

    monkeypatch.setattr(StartedTake, "commit", wait_until_both_are_begun)
    first = catalog.async_save(300, state(300.0))
    held.append(first)
    second = catalog.async_save(100, state(100.0))
    held.append(second)
    assert first.wait(PATIENCE_S).timeline == 0
    assert second.wait(PATIENCE_S).timeline == 1
    assert catalog.latest() == second.wait()
    assert newest_value(root) == 100


def test_a_save_that_was_cancelled_does_not_count(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog(root)
    with monkeypatch.context() as patch:
        patch.setattr(StartedTake, "wait_written", lambda take, timeout_s=None: time.sleep(0.001))
        cancelled = catalog.async_save(300, state(300.0))
        assert cancelled.cancel()
    with pytest.raises(CancelledError):
        cancelled.wait()
    assert catalog.save(100, state(100.0)).timeline == 0
    assert catalog.steps() == [100]
    assert pending.PENDING.newest(catalog.root) is None


def test_an_async_save_has_the_values_of_the_call(root: str) -> None:
    catalog = Catalog(root)
    given = state(1.0)
    save = catalog.async_save(1, given, metrics={"loss": 0.25}, pinned=True)
    given["state"]["tensor"].zero_()
    save.wait_staged(PATIENCE_S)
    generation = save.wait(PATIENCE_S)
    assert save.done()
    assert save.staged()
    done, total = save.progress()
    assert done == total > 0
    assert not save.cancel()
    assert (generation.metrics, generation.pinned, generation.step) == ({"loss": 0.25}, True, 1)
    assert catalog.generations() == [generation]
    assert newest_value(root) == 1.0


def test_a_save_that_fails_leaves_nothing(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, keep_last=1)
    catalog.save(1, state(1.0))
    with pytest.raises(TypeError):
        catalog.save(2, {"state": torch.ones(3)})  # type: ignore[dict-item]
    assert catalog.collect().removed == ()
    assert newest_value(tmp_path) == 1.0


def test_times_of_files_mean_nothing(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        generation = Catalog(tmp_path).save(step, state(step))
        for path in (generation.path, os.path.join(generation.path, GENERATION_FILE)):
            os.utime(path, (10**9 - step, 10**9 - step))
    os.utime(Catalog(tmp_path).generations()[0].path)
    assert newest_value(tmp_path) == 3
    assert [generation.step for generation in Catalog(tmp_path, keep_last=1).collect(dry_run=True).removed] == [1, 2]


def test_copies_and_what_others_put_there_are_neither_found_nor_touched(tmp_path: Path, files_below: Any) -> None:
    catalog = Catalog(tmp_path, keep_last=1)
    generation = catalog.save(5, state(5.0))
    shutil.copytree(generation.path, tmp_path / "step_900-0123abcd")
    shutil.copytree(generation.path, tmp_path / "backup of step 5")
    Snapshot.take(tmp_path / "step_901-20240101", state(901.0))
    Snapshot.take(tmp_path / "step_902", state(902.0))
    (tmp_path / "step_903-0123abcd").write_text("a file")
    (tmp_path / "step_904-0123abcd").mkdir()
    (tmp_path / "step_905-0123abcd").symlink_to(generation.path)
    (tmp_path / ".step_906-0123abcd.tmp-of mine").mkdir()
    (tmp_path / ".trash").mkdir(exist_ok=True)
    (tmp_path / ".trash" / "letters").write_text("of mine")
    others = {name for name in os.listdir(tmp_path) if name != generation.id}
    before = {name: data for name, data in files_below(tmp_path).items() if not name.startswith(generation.id)}
    assert catalog.generations() == [generation]
    assert catalog.latest() == generation
    assert newest_value(tmp_path) == 5.0
    newer = catalog.save(6, state(6.0))
    assert newer.timeline == 0
    catalog.collect()
    assert catalog.generations() == [newer]
    assert set(os.listdir(tmp_path)) == others | {newer.id}
    assert {name: data for name, data in files_below(tmp_path).items() if not name.startswith(newer.id)} == before


def test_a_step_may_be_restored_by_name_and_a_missing_one_is_an_error_that_lists_the_steps(root: str) -> None:
    catalog = Catalog(root)
    for step, value in ((1, 1.0), (2, 2.0), (2, 2.5), (3, 3.0)):
        catalog.save(step, state(value))
    found = state()
    assert catalog.restore(2, found).step == 2
    assert found["state"]["value"] == 2.5
    with pytest.raises(IncompleteSnapshotError, match=r"1, 2, 3") as caught:
        catalog.restore(4, found)
    assert caught.value.path == root
    for use in (catalog.pin, catalog.unpin):
        with pytest.raises(FileNotFoundError):
            use(4)


def test_metrics_come_back_as_they_were(root: str) -> None:
    metrics = {"loss": 1e-300, "nan": math.nan, "inf": math.inf, "low": -math.inf, "steps": 3, "name: ü\n": 0.1}
    catalog = Catalog(root)
    catalog.save(1, state(), metrics={**metrics, "tensor": torch.tensor(2.5), "array": np.float32(0.5)})
    found = catalog.generations()[0].metrics
    assert math.isnan(found["nan"])
    assert {**found, "nan": 0} == {**metrics, "nan": 0, "tensor": 2.5, "array": 0.5}
    assert all(type(value) is float for value in found.values())


def test_a_loss_that_has_its_graph_yet_is_a_metric_without_a_warning(tmp_path: Path) -> None:
    loss = torch.full((1,), 2.0, requires_grad=True) * 2
    assert Catalog(tmp_path).save(1, state(), metrics={"loss": loss}).metrics == {"loss": 4.0}


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize(
    ("metrics", "error"),
    [
        ({1: 0.5}, TypeError),
        ({"loss": "low"}, TypeError),
        ({"loss": None}, TypeError),
        ({"loss": [1.0]}, TypeError),
        ({"loss": torch.ones(2)}, TypeError),
        ({"loss": 10**400}, TypeError),
        ({"\udcff": 1.0}, ValueError),
    ],
    ids=["a name of int", "text", "None", "a list", "two numbers", "too large", "a name that is no text"],
)
def test_metrics_that_are_no_numbers_are_refused_before_anything_is_written(
    tmp_path: Path, metrics: Any, error: type[Exception], in_background: bool
) -> None:
    catalog = Catalog(tmp_path)
    with pytest.raises(error, match="metrics"):
        (catalog.async_save if in_background else catalog.save)(1, state(), metrics=metrics)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("step", "error"), [(-1, ValueError), (1 << 63, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_a_step_that_is_no_count_is_refused(tmp_path: Path, step: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="step="):
        Catalog(tmp_path).save(step, state())


def test_steps_may_be_integers_of_numpy_and_as_large_as_63_bits(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    catalog.save(np.int64(3), state())  # type: ignore[arg-type]
    catalog.save((1 << 63) - 1, state(2.0))
    assert catalog.steps() == [3, (1 << 63) - 1]
    assert newest_value(tmp_path) == 2.0


def test_a_catalog_stays_where_it_is_when_the_program_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    catalog = Catalog("relative")
    catalog.save(1, state(1.0))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    catalog.save(2, state(2.0))
    assert newest_value(tmp_path / "relative") == 2.0
    assert Catalog(f"fs://{tmp_path}/relative").steps() == [1, 2]
    with pytest.raises(ConfigError, match="nowhere"):
        Catalog("nowhere://bucket/prefix")


def test_a_catalog_may_be_reached_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    catalog = Catalog(tmp_path / "link", keep_last=1)
    for step in (1, 2):
        catalog.save(step, state(step))
    catalog.collect()
    assert (tmp_path / "link").is_symlink()
    assert Catalog(tmp_path / "real").steps() == [2]


def test_a_generation_of_a_newer_release_is_an_error_and_stays(tmp_path: Path) -> None:
    from xxhash import xxh3_128_hexdigest

    catalog = Catalog(tmp_path)
    catalog.save(1, state(1.0))
    newer = catalog.save(2, state(2.0))
    line = b'{"format_version":3,"shape":"unknown"}'
    with open(os.path.join(newer.path, GENERATION_FILE), "wb") as file:
        file.write(line + b"\n" + xxh3_128_hexdigest(line).encode() + b"\n")
    for use in (catalog.latest, lambda: catalog.restore_latest(state())):
        with pytest.raises(FormatVersionError, match="format version 3, this release reads 1 to 2") as caught:
            use()
        assert caught.value.path == newer.path
    assert catalog.quarantined() == []
    assert os.path.isdir(newer.path)
    assert catalog.steps() == [1]

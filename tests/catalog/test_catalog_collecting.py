"""What collections remove, what they leave, and what a crash in the middle of one leads to."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from warm_python import WarmPython

from sucrose import Catalog, Retention, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.storage import StagedDirectory, leases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from places import Place

PATIENCE_S = 60.0
PYTHONPATH = str(Path(__file__).parents[2] / "python")


def state(value: float = 0.0) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((1000,), float(value)))}


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": PYTHONPATH, "HOME": str(home), "XDG_STATE_HOME": str(home)}


def names(root: Path) -> set[str]:
    return set(os.listdir(root)) - {".trash", ".pins", "quarantine"}


def dead_writers_directory(root: Path, step: int = 7) -> Path:
    assert COLLECTOR.wait_idle(PATIENCE_S)  # it would take it away at once
    path = root / f".step_{step}-0123abcd.tmp-{step:032x}"
    (path / "data").mkdir(parents=True)
    (path / "data" / "0_0.safetensors").write_bytes(b"half")
    return path


@pytest.fixture(scope="module")
def warm_python() -> Iterator[WarmPython]:
    python = WarmPython()
    yield python
    python.close()


@pytest.fixture(autouse=True)
def idle() -> Iterator[None]:
    yield
    assert COLLECTOR.wait_idle(PATIENCE_S)


def test_each_save_has_older_generations_removed_in_the_background(place: Place) -> None:
    catalog = Catalog(place.root, keep_last=2)
    for step in range(5):
        catalog.save(step, state(step))
    catalog.async_save(5, state(5)).wait(PATIENCE_S)
    assert COLLECTOR.wait_idle(PATIENCE_S)
    assert catalog.steps() == [4, 5]
    left = {name.split("/")[0] for name in place.files()}
    assert left == {generation.id for generation in catalog.generations()}
    assert all(generation.snapshot().verify() for generation in catalog.generations())


def test_a_dry_run_tells_what_a_collection_then_does(tmp_path: Path, files_below: Any) -> None:
    for step in range(4):
        Catalog(tmp_path).save(step, state(step))
    dead_writers_directory(tmp_path)
    keeping = Catalog(tmp_path, keep_last=1, keep_every=2)
    before = files_below(tmp_path)
    told = keeping.collect(dry_run=True)
    assert files_below(tmp_path) == before
    assert told.dry_run
    done = keeping.collect()
    assert [generation.step for generation in done.removed] == [1]
    assert len(done.leftovers) == 1
    assert done.nbytes == done.removed[0].nbytes
    assert (told.removed, told.leftovers, told.nbytes) == (done.removed, done.leftovers, done.nbytes)
    assert keeping.steps() == [0, 2, 3]
    again = keeping.collect()
    assert not again.removed
    assert not again.leftovers


def test_the_best_and_the_pinned_stay(place: Place) -> None:
    catalog = Catalog(place.root, keep_last=1, keep_best=("loss", 1))
    catalog.save(1, state(1), metrics={"loss": 0.1})
    catalog.save(2, state(2), metrics={"loss": 0.2}, pinned=True)
    catalog.save(3, state(3), metrics={"loss": 0.3})
    catalog.pin(3)
    for step in (4, 5):
        catalog.save(step, state(step), metrics={"loss": float("nan")})
    catalog.collect()
    assert catalog.steps() == [1, 2, 3, 5]
    assert [generation.step for generation in catalog.generations() if generation.pinned] == [2, 3]
    catalog.unpin(2)
    catalog.unpin(3)
    catalog.collect()
    assert catalog.steps() == [1, 5]
    assert not [name for name in place.files() if name.startswith(".pins")]


def test_a_pin_can_be_taken_back_and_set_again(root: str) -> None:
    catalog = Catalog(root)
    catalog.save(1, state(), pinned=True)
    for change, pinned in ((catalog.unpin, False), (catalog.pin, True), (catalog.pin, True), (catalog.unpin, False)):
        change(1)
        assert [generation.pinned for generation in Catalog(root).generations()] == [pinned]


def test_nothing_is_removed_while_the_newest_is_broken(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    catalog = Catalog(place.root)
    for step in (1, 2, 3):
        newest = catalog.save(step, state(step))
    [data] = [name for name in place.files() if name.startswith(newest.id) and name.endswith("0_0.safetensors")]
    place.write(data, b"cut short")
    keeping = Catalog(place.root, keep_last=1)
    report = keeping.collect()
    assert report.removed == ()
    assert report.blocked is not None
    assert newest.id in report.blocked
    assert report.blocked in caplog.text
    assert catalog.steps() == [1, 2, 3]
    found = state()
    assert keeping.restore_latest(found) is not None
    assert found["state"]["value"] == 2
    assert keeping.collect().blocked is None
    assert catalog.steps() == [2]


def test_older_generations_go_only_when_a_newest_that_was_not_durable_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sucrose.engine import get_engine

    catalog = Catalog(tmp_path)
    catalog.save(1, state(1))
    newest = catalog.save(2, state(2), durable=False)
    synced: list[str] = []
    engine = type(get_engine())
    monkeypatch.setattr(engine, "sync", lambda self, paths: synced.extend(paths) or catalog.restore(1, state()))
    Catalog(tmp_path, keep_last=1).collect()
    below = [os.path.join(folder, name) for folder, _, files in os.walk(newest.path) for name in files]
    assert {str(tmp_path), newest.path, *below} <= set(synced)
    assert catalog.steps() == [2]


def test_a_generation_that_is_being_read_stays_until_it_is_not(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    for step in (1, 2, 3):
        catalog.save(step, state(step))
    first, second, _ = catalog.generations()
    keeping = Catalog(tmp_path, keep_last=1)
    one, other = second.lease(), second.lease()
    assert one is not None
    assert other is not None
    for expected in (True, False):
        report = keeping.collect(dry_run=expected)
        assert report.removed == (first,)
        assert report.in_use == (second,)
    one.release()
    assert keeping.collect().in_use == (second,)
    other.release()
    one.release()
    assert keeping.collect().removed == (second,)
    assert first.lease() is None


FORKED = """
import os, subprocess, sys
from sucrose import Catalog, StateDict
catalog = Catalog(sys.argv[1])
for step in (1, 2):
    catalog.save(step, {"state": StateDict(value=step)})
lease = catalog.generations()[0].lease()
children_go_on, go_on = os.pipe()
if os.fork() == 0:
    os.close(go_on)
    os.read(children_go_on, 1)
    os._exit(0)
keeping = Catalog(sys.argv[1], keep_last=1)
print(len(keeping.collect().removed))  # the child has released nothing of its parent's
started = subprocess.Popen(["sleep", "60"], pass_fds=lease._fds)
lease.release()
print(len(keeping.collect().removed))  # neither child holds anything
started.kill()
os.close(go_on)
os.wait()
"""


def test_children_do_not_hold_what_their_parent_read(tmp_path: Path, warm_python: WarmPython) -> None:
    done = warm_python.run(FORKED, [str(tmp_path / "catalog")], environment(tmp_path))
    assert (done.stdout, done.stderr) == ("0\n1\n", "")


def test_what_a_dead_writer_left_is_removed_and_a_live_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(tmp_path)
    dead = dead_writers_directory(tmp_path)
    commit = StagedDirectory.commit
    at_commit, go_on = threading.Event(), threading.Event()

    def slow(staged: StagedDirectory, *args: Any, **kwargs: Any) -> None:
        at_commit.set()
        assert go_on.wait(PATIENCE_S)
        commit(staged, *args, **kwargs)

    monkeypatch.setattr(StagedDirectory, "commit", slow)
    pending = catalog.async_save(1, state(1))
    try:
        assert at_commit.wait(PATIENCE_S)
        assert catalog.collect(dry_run=True).leftovers == (dead.name,)
        assert catalog.collect().leftovers == (dead.name,)
        [alive] = names(tmp_path)
        assert alive.startswith(".step_1-")
    finally:
        go_on.set()
    generation = pending.wait(PATIENCE_S)
    assert generation.snapshot().verify()
    assert names(tmp_path) == {generation.id}
    lease = leases.lease_for_removal(generation.path)
    assert lease is not None  # the writer holds it no more
    lease.release()


def test_a_writer_whose_new_directory_is_taken_for_a_dead_ones_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(tmp_path)
    mkdir = os.mkdir
    stolen: list[str] = []

    def collected_at_once(path: Any, *args: Any, **kwargs: Any) -> None:
        mkdir(path, *args, **kwargs)
        if ".tmp-" in str(path) and len(stolen) < 3:
            stolen.append(path)
            os.rmdir(path)

    monkeypatch.setattr(os, "mkdir", collected_at_once)
    generation = catalog.save(1, state(1))
    assert len(set(stolen)) == 3
    assert generation.snapshot().verify()
    assert names(tmp_path) == {generation.id}


def test_a_writer_without_a_descriptor_left_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> int:
        if ".tmp-" in str(path):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="Too many open files") as caught:
        Catalog(tmp_path).save(1, state(1))
    assert caught.value.errno == errno.EMFILE
    assert list(tmp_path.iterdir()) == []


def test_on_file_systems_without_locks_everything_works_but_live_and_dead_writers_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(leases.fcntl, "flock", refuse)
    dead = dead_writers_directory(tmp_path)
    catalog = Catalog(tmp_path, keep_last=1)
    for step in (1, 2, 3):
        catalog.save(step, state(step))
    catalog.collect()
    assert catalog.steps() == [3]
    assert dead.exists()
    found = state()
    assert catalog.restore_latest(found) is not None
    assert found["state"]["value"] == 3


def test_two_collections_at_once_on_a_file_system_without_locks_both_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    other = Catalog(tmp_path, keep_last=1)
    meanwhile = []

    def once_by_another_first(function: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any, **kwargs: Any) -> None:
            if function not in meanwhile:
                meanwhile.append(function)
                other.collect()
            function(*args, **kwargs)

        return call

    monkeypatch.setattr(leases.fcntl, "flock", refuse)
    for step in (1, 2, 3):
        Catalog(tmp_path).save(step, state(step))
    monkeypatch.setattr(os, "rename", once_by_another_first(os.rename))
    assert Catalog(tmp_path, keep_last=2).collect().removed == ()
    assert other.steps() == [3]
    Catalog(tmp_path).save(4, state(4))
    monkeypatch.setattr(shutil, "rmtree", once_by_another_first(shutil.rmtree))
    assert len(Catalog(tmp_path, keep_last=1).collect().removed) == 1
    assert len(meanwhile) == 2
    assert os.listdir(tmp_path / ".trash") == []
    assert other.steps() == [4]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_for_a_trash_folder_can_be_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    for step in (1, 2, 3):
        Catalog(tmp_path).save(step, state(step))
    mkdir = os.mkdir

    def no_room(path: Any, *args: Any, **kwargs: Any) -> None:
        if os.path.basename(path) == ".trash":
            raise OSError(code, os.strerror(code), path)
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", no_room)
    catalog = Catalog(tmp_path, keep_last=1)
    assert [generation.step for generation in catalog.collect().removed] == [1, 2]
    assert os.listdir(tmp_path) == [catalog.generations()[0].id]


def test_nothing_is_moved_or_removed_through_symbolic_links(tmp_path: Path, files_below: Any) -> None:
    outside = tmp_path / "outside"
    catalog = Catalog(outside)
    for step in (1, 2):
        catalog.save(step, state(step))
    before = files_below(outside)
    root = tmp_path / "root"
    keeping = Catalog(root, keep_last=1)
    for step in (1, 2):
        Catalog(root).save(step, state(step))
    first = Path(keeping.generations()[0].path)
    (first / "link").symlink_to(outside)
    (first / "data" / "link").symlink_to(catalog.generations()[0].path)
    for generation in catalog.generations():
        (root / generation.id).symlink_to(generation.path)
    (root / f".step_1-0123abcd.tmp-{0:032x}").symlink_to(outside)
    keeping.collect()
    assert keeping.steps() == [2]
    assert files_below(outside) == before
    shutil.rmtree(root / ".trash")
    (root / ".trash").symlink_to(outside)
    keeping.save(3, state(3))
    assert COLLECTOR.wait_idle(PATIENCE_S)
    with pytest.raises(NotADirectoryError):
        keeping.collect()
    assert keeping.steps() == [2, 3]
    assert files_below(outside) == before


def test_a_collection_that_fails_is_a_warning_and_no_failed_save(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(tmp_path, keep_last=1)
    catalog.save(1, state(1))
    assert COLLECTOR.wait_idle(PATIENCE_S)

    def refuse(path: Any, ignore_errors: bool = False, **kwargs: Any) -> None:
        if not ignore_errors:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        generation = catalog.save(2, state(2))
        assert COLLECTOR.wait_idle(PATIENCE_S)
    assert catalog.latest() == generation
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert os.strerror(errno.EROFS) in record.getMessage()
    catalog.collect()
    assert list((tmp_path / ".trash").iterdir()) == []
    assert names(tmp_path) == {generation.id}


def test_one_leftover_that_cannot_be_removed_does_not_hold_up_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (2, 3):
        Catalog(tmp_path).save(step, state(step))
    rmtree = shutil.rmtree

    def refuse(path: Any, *args: Any, **kwargs: Any) -> None:
        if stuck.name in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        rmtree(path, *args, **kwargs)

    stuck = dead_writers_directory(tmp_path, 1)
    dead_writers_directory(tmp_path, 2)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(PermissionError):
        Catalog(tmp_path, keep_last=1).collect()
    assert Catalog(tmp_path).steps() == [3]
    assert [name for name in os.listdir(tmp_path) if ".tmp-" in name] == [stuck.name]
    assert os.listdir(tmp_path / ".trash") == []


def test_two_catalogs_with_rules_of_their_own_share_the_background(tmp_path: Path) -> None:
    catalogs = [Catalog(tmp_path / name, Retention(keep_last=count)) for name, count in (("a", 1), ("b", 3))]
    for step in range(6):
        for catalog in catalogs:
            catalog.save(step, state(step), durable=False)
    assert COLLECTOR.wait_idle(PATIENCE_S)
    assert [catalog.steps() for catalog in catalogs] == [[5], [3, 4, 5]]


CRASH = """
import os, signal, sys
root, moment = sys.argv[1], int(sys.argv[2])
from sucrose import Catalog, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.snapshot.take import StartedTake
import torch

# Kills the process before or after the n-th call that changes the folder, from the commit on.
calls = 0

def counted(function):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        calls += 1
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

commit = StartedTake.commit
def commit_under_watch(take):
    for name in ("rename", "unlink", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    return commit(take)
StartedTake.commit = commit_under_watch

Catalog(root, keep_last=1).save(10000, {"state": StateDict(value=2.0, tensor=torch.full((1000,), 2.0))})
COLLECTOR.wait_idle()
"""


@pytest.mark.parametrize("first_step", [9999, 10001], ids=["9999 to 10000", "a step backwards"])
def test_killed_anywhere_from_the_commit_to_the_end_of_the_collection_one_whole_generation_is_found(
    tmp_path: Path, warm_python: WarmPython, first_step: int
) -> None:
    values = []
    moment, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        moment += 1
        root = tmp_path / str(moment)
        first = Catalog(root).save(first_step, state(1.0), durable=False)
        done = warm_python.run(CRASH, [str(root), str(moment)], environment(tmp_path))
        status = done.returncode
        survivors = Catalog(root).generations()
        assert first in survivors or len(survivors) == 1
        found = state()
        catalog = Catalog(root, keep_last=1)
        newest = catalog.restore_latest(found)
        assert newest is not None
        value = found["state"]["value"]
        assert value == (1.0 if newest == first else 2.0)
        assert found["state"]["tensor"].eq(value).all()
        assert catalog.quarantined() == []
        values.append(value)
        latest = catalog.save(newest.step, state(3.0))
        catalog.collect()
        assert COLLECTOR.wait_idle(PATIENCE_S)
        assert names(root) == {latest.id}
        assert not (root / ".trash").exists() or os.listdir(root / ".trash") == []
    assert status == 0, done.stderr
    assert values == sorted(values)
    assert values[0] == 1.0
    assert values.count(2.0) > 10  # there are so many points after the commit


def test_a_half_deleted_generation_is_neither_found_nor_in_the_way(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    for step in (1, 2):
        catalog.save(step, state(step))
    halves = [Path(generation.path) for generation in catalog.generations()]
    shutil.rmtree(halves[1] / "data")
    (halves[0] / ".generation").unlink()
    (halves[0] / ".snapshot_index").unlink()
    assert catalog.restore_latest(state()) is None
    assert [quarantined.name for quarantined in catalog.quarantined()] == [halves[1].name]
    newest = catalog.save(1, state(3))
    found = state()
    assert Catalog(tmp_path).restore_latest(found) == newest
    assert found["state"]["value"] == 3


def test_the_end_of_a_program_does_not_lose_its_collection(tmp_path: Path, warm_python: WarmPython) -> None:
    program = """
import sys, torch
from sucrose import Catalog, StateDict
Catalog(sys.argv[1], keep_last=1).async_save(int(sys.argv[2]), {"state": StateDict(tensor=torch.ones(10))})
"""
    for step in (1, 2, 3):
        done = warm_python.run(program, [str(tmp_path / "catalog"), str(step)], environment(tmp_path))
        assert (done.returncode, done.stderr) == (0, "")
    assert Catalog(tmp_path / "catalog").steps() == [3]

"""Several processes work in one catalog at once, and none of them ever finds half of anything."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from warm_python import WarmPython

from sucrose import Catalog, Snapshot, StateDict

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHONPATH = str(Path(__file__).parents[2] / "python")

# Each worker is a process of its own; one that fails says how, and the program's status is the number of them.
PREAMBLE = """
import os, signal, sys, time, traceback
import torch
from sucrose import Catalog, StateDict
from sucrose.catalog.background import COLLECTOR
root = sys.argv[1]
ROUNDS = 25

def state(value):
    return {"state": StateDict(value=value, tensor=torch.full((5000,), float(value)))}

def save(catalog, step, value, **options):
    catalog.save(step, state(value), durable=False, **options)

def check(generation, found):
    assert generation is not None, "nothing was found"
    value = found["state"]["value"]
    assert found["state"]["tensor"].eq(float(value)).all(), value
    return value

def restore():
    found = state(0)
    return check(Catalog(root).restore_latest(found), found)

def run(*workers):
    children = []
    for worker in workers:
        child = os.fork()
        if child == 0:
            status = 0
            try:
                worker()
                assert COLLECTOR.wait_idle(60)
            except BaseException:
                traceback.print_exc()
                status = 1
            sys.stderr.flush()
            os._exit(status)
        children.append(child)
    failed = sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children)
    sys.exit(failed)
"""


def state(value: float) -> dict[str, Any]:
    return {"state": StateDict(value=value, tensor=torch.full((5000,), float(value)))}


@pytest.fixture(scope="module")
def warm_python() -> Iterator[WarmPython]:
    python = WarmPython()
    yield python
    python.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "catalog"
    Catalog(root).save(0, state(0))
    return root


def run(warm_python: WarmPython, program: str, root: Path) -> None:
    home = str(root.parent)
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "HOME": home, "XDG_STATE_HOME": home}
    done = warm_python.run(PREAMBLE + program, [str(root)], environment, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert Catalog(root).quarantined() == []
    assert not [name for name in os.listdir(root) if ".tmp-" in name]


def test_two_processes_save_the_same_steps(warm_python: WarmPython, root: Path) -> None:
    program = """
def worker(offset):
    catalog = Catalog(root)
    for step in range(1, ROUNDS + 1):
        save(catalog, step, offset + step)
        restore()
run(lambda: worker(0), lambda: worker(1000))
"""
    run(warm_python, program, root)
    generations = Catalog(root).generations()
    assert len(generations) == 51
    assert {generation.step for generation in generations} == set(range(26))
    assert all(generation.snapshot().verify() for generation in generations)


def test_some_save_while_others_restore_verify_and_collect(warm_python: WarmPython, root: Path) -> None:
    program = """
stop = root + ".stop"

def writer():
    catalog = Catalog(root, keep_last=1)
    for step in range(1, 2 * ROUNDS + 1):
        save(catalog, step, step)
    open(stop, "w").close()

def until_the_end(work):
    def worker():
        while not os.path.exists(stop):
            work()
    return worker

last = [0]
def restoring():
    value = restore()
    assert value >= last[0], (value, last)  # never back
    last[0] = value

def verifying():
    catalog = Catalog(root)
    assert catalog.latest(verify=True) is not None
    assert catalog.generations()

def collecting():
    Catalog(root, keep_last=1).collect()

run(writer, until_the_end(restoring), until_the_end(verifying), until_the_end(collecting))
"""
    run(warm_python, program, root)
    assert Catalog(root, keep_last=1).collect().blocked is None
    assert Catalog(root).steps() == [50]


def test_two_runs_share_a_folder_without_knowing_of_each_other(warm_python: WarmPython, root: Path) -> None:
    """One is far ahead of the other. Both save and keep one; what is found is always whole, and of one of them."""
    program = """
def worker(first):
    catalog = Catalog(root, keep_last=1)
    for step in range(first, first + ROUNDS):
        save(catalog, step, step)
        value = restore()
        assert value in range(1, ROUNDS + 1) or value in range(1000, 1000 + ROUNDS), value
run(lambda: worker(1), lambda: worker(1000))
"""
    run(warm_python, program, root)
    Catalog(root, keep_last=1).collect()
    [step] = Catalog(root).steps()
    assert step in (25, 1024)


def test_writers_are_killed_while_others_save_and_collect(warm_python: WarmPython, root: Path) -> None:
    """The leftovers of the dead go, and those of the living stay."""
    program = """
from sucrose.storage import StagedDirectory

def dies():
    pid = os.fork()
    if pid == 0:
        StagedDirectory.commit = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
        save(Catalog(root), 7, 7)
    os.waitpid(pid, 0)

def killed():
    for _ in range(ROUNDS):
        dies()

def writer():
    catalog = Catalog(root, keep_last=2)
    for step in range(1, 2 * ROUNDS + 1):
        save(catalog, step, step)

def collecting():
    for _ in range(4 * ROUNDS):
        Catalog(root, keep_last=2).collect()

run(killed, writer, collecting)
"""
    home = str(root.parent)
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "HOME": home, "XDG_STATE_HOME": home}
    done = warm_python.run(PREAMBLE + program, [str(root)], environment, timeout_s=300)
    assert done.returncode == 0, done.stderr
    Catalog(root, keep_last=2).collect()
    assert Catalog(root).steps() == [49, 50]
    assert set(os.listdir(root)) == {".trash", *(generation.id for generation in Catalog(root).generations())}
    assert os.listdir(root / ".trash") == []


def test_two_processes_that_both_find_a_generation_broken_quarantine_it_once(
    warm_python: WarmPython, root: Path
) -> None:
    program = """
def worker():
    catalog = Catalog(root)
    for generation in reversed(catalog.generations()[1:]):
        try:
            with open(generation.path + "/data/0_0.safetensors", "r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"!")
        except FileNotFoundError:
            pass  # the other was faster
        restore()
run(worker, worker)
"""
    for step in range(1, 25):
        Catalog(root).save(step, state(step), durable=False)
    home = str(root.parent)
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "HOME": home, "XDG_STATE_HOME": home}
    done = warm_python.run(PREAMBLE + program, [str(root)], environment, timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert Catalog(root).steps() == [0]
    assert len(Catalog(root).quarantined()) == 24


def test_of_two_processes_that_take_a_snapshot_to_one_path_one_is_refused(warm_python: WarmPython, root: Path) -> None:
    program = """
from sucrose import Snapshot
taken = root + ".taken"

def worker(value):
    for step in range(ROUNDS):
        try:
            Snapshot.take(f"{root}.paths/{step}", state(value), durable=False)
        except FileExistsError:
            refused = True
        else:
            refused = False
        with open(f"{taken}.{value}", "a") as file:
            file.write(f"{int(not refused)}")

run(lambda: worker(1), lambda: worker(2))
"""
    run(warm_python, program, root)
    taken = [Path(f"{root}.taken.{value}").read_text() for value in (1, 2)]
    for step in range(25):
        snapshot = Snapshot(f"{root}.paths/{step}")
        value = snapshot.read_object("0/state/value")
        assert snapshot.verify()
        assert [one[step] for one in taken] == (["1", "0"] if value == 1 else ["0", "1"])
    assert sorted(os.listdir(f"{root}.paths")) == sorted(map(str, range(25)))


def test_two_processes_that_replace_one_snapshot_leave_one_of_theirs_whole(warm_python: WarmPython, root: Path) -> None:
    program = """
from sucrose import Snapshot

def worker(value):
    for step in range(ROUNDS):
        Snapshot.take(root + ".one/path", state(value), durable=False, overwrite=True)

run(lambda: worker(1), lambda: worker(2))
"""
    run(warm_python, program, root)
    snapshot = Snapshot(f"{root}.one/path")
    assert snapshot.verify()
    found = state(0)
    snapshot.restore(found)
    assert found["state"]["tensor"].eq(found["state"]["value"]).all()
    assert os.listdir(f"{root}.one") == ["path"]

"""A process forks while a save is pending: the save is the parent's business alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from warm_python import WarmPython

from sucrose import Snapshot

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

WARM_PYTHON = WarmPython()

PREAMBLE = """
import errno, multiprocessing, os, sys, threading, time
import torch
from sucrose import Snapshot, StateDict
from sucrose.errors import ForkError
from sucrose.snapshot.take import StartedTake
from sucrose.storage import StagedDirectory
folder = sys.argv[1]

def save(value, name="s"):
    state = {"state": StateDict(value=value, tensor=torch.full((numel,), value))}
    return Snapshot.async_take(folder + "/" + name, state)

numel = 300_000
forked = threading.Event()
wait_written = StartedTake.wait_written
parent = os.getpid()

def held(take, timeout_s=None):
    return (os.getpid() != parent or forked.wait(timeout_s)) and wait_written(take, timeout_s)

StartedTake.wait_written = held

def in_child(act, *, leave=os._exit):
    child = os.fork()
    if child == 0:
        act()
        sys.stdout.flush()
        leave(0)
    _, status = os.waitpid(child, 0)
    print("child ended with", os.waitstatus_to_exitcode(status))
"""


def run(code: str, folder: Path, engine: str) -> subprocess.CompletedProcess[str]:
    return WARM_PYTHON.run(PREAMBLE + code, [str(folder)], {**os.environ, "SUCROSE_ENGINE": engine})


@pytest.fixture(autouse=True, scope="module")
def python_ends_with_this_file() -> Iterator[None]:
    yield
    WARM_PYTHON.close()


def value_in(folder: Path, name: str) -> float:
    snapshot = Snapshot(folder / name)
    assert snapshot.verify()
    value: float = snapshot.read_object("0/state/value")
    return value


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
@pytest.mark.parametrize("handle", ["kept", "dropped"])
def test_the_end_of_a_child_leaves_the_parents_save_alone(tmp_path: Path, engine: str, leave: str, handle: str) -> None:
    code = f"""
kept = save(1.0)
if {handle == "dropped"}:
    del kept
in_child(lambda: None, leave={leave})
print(sorted(os.listdir(folder))[0][:7])
forked.set()
"""
    done = run(code, tmp_path, engine)
    assert done.stdout.splitlines() == ["child ended with 0", ".s.tmp-"]
    assert (done.returncode, done.stderr) == (0, "")
    assert value_in(tmp_path, "s") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_child_of_multiprocessing_leaves_the_parents_save_alone(tmp_path: Path, engine: str) -> None:
    code = """
pending = save(1.0)
child = multiprocessing.get_context("fork").Process(target=print, args=("in the child",))
child.start()
child.join()
print(child.exitcode, pending.done())
forked.set()
pending.wait()
"""
    done = run(code, tmp_path, engine)
    assert done.stdout.splitlines() == ["in the child", "0 False"]
    assert (done.returncode, done.stderr) == (0, "")
    assert value_in(tmp_path, "s") == 1.0


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_pending_snapshot_is_an_error_in_a_child_that_names_both_processes(tmp_path: Path, engine: str) -> None:
    code = """
pending = save(1.0)
def use():
    for name in ("wait", "cancel", "done", "staged", "wait_staged", "progress"):
        try:
            getattr(pending, name)()
        except ForkError as error:
            print(name, str(parent) in str(error), str(os.getpid()) in str(error), error.path == pending.path)
    print(pending)
in_child(use)
forked.set()
print(bool(pending.wait().verify()))
"""
    done = run(code, tmp_path, engine)
    *methods, shown, _, verified = done.stdout.splitlines()
    assert [line.split()[1:] for line in methods] == [["True"] * 3] * 6, done.stderr
    assert shown == f"PendingSnapshot('{tmp_path}/s')"
    assert verified == "True"
    assert done.returncode == 0


def test_what_a_child_inherits_is_never_freed_in_it(tmp_path: Path) -> None:
    code = """
class Ticket:
    def __del__(self, write=os.write, getpid=os.getpid, parent=parent):
        write(1, b"freed in parent\\n" if getpid() == parent else b"freed in child\\n")

from sucrose.snapshot.process_end import COMMITS
pending = save(1.0), save(2.0, "t")
COMMITS.under_way()[1].take.writes.ticket = Ticket()  # those of the engine wait for its threads when they are freed
in_child(lambda: globals().pop("pending"), leave=sys.exit)
forked.set()
"""
    done = run(code, tmp_path, "reference")
    assert sorted(done.stdout.splitlines()) == ["child ended with 0", "freed in parent"]
    assert done.stderr == ""


def test_a_child_may_save_on_its_own_where_its_engine_can(tmp_path: Path) -> None:
    code = """
pending = save(1.0)
in_child(lambda: save(2.0, "of the child"), leave=sys.exit)
print(pending.done())
forked.set()
"""
    done = run("numel = 10" + code, tmp_path, "reference")  # torch's own threads do not survive forks either
    assert done.stdout.splitlines() == ["child ended with 0", "False"], done.stderr
    assert value_in(tmp_path, "of the child") == 2.0
    assert value_in(tmp_path, "s") == 1.0
    assert len(list(tmp_path.iterdir())) == 2


def test_the_native_engine_is_an_error_in_a_child(tmp_path: Path) -> None:
    code = """
numel = 10
pending = save(1.0)
def use():
    try:
        save(2.0, "of the child")
    except ForkError as error:
        print(str(parent) in str(error))
in_child(use, leave=sys.exit)
forked.set()
"""
    done = run(code, tmp_path, "native")
    assert done.stdout.splitlines() == ["True", "child ended with 0"], done.stderr
    assert value_in(tmp_path, "s") == 1.0
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failure_that_the_parent_has_not_been_told_of_is_not_the_childs(tmp_path: Path) -> None:
    code = """
def fail(staged, *args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), staged.root)
StagedDirectory.commit = fail
pending = save(1.0)
forked.set()
while not pending.done():
    time.sleep(0.01)
in_child(lambda: None, leave=sys.exit)
"""
    done = run(code, tmp_path, "native")
    assert done.stdout.splitlines() == ["child ended with 0"]
    assert done.returncode == 1
    assert done.stderr.count("sucrose:") == 1


def test_a_fork_while_another_thread_saves_leaves_the_child_a_free_lock(tmp_path: Path) -> None:
    code = """
from sucrose.snapshot.process_end import COMMITS
locked, go_on = threading.Event(), threading.Event()
def hold():
    with COMMITS._at_work:
        locked.set()
        go_on.wait()
threading.Thread(target=hold).start()
locked.wait()
in_child(lambda: save(1.0, "of the child"), leave=sys.exit)
go_on.set()
"""
    done = run("numel = 10" + code, tmp_path, "reference")
    assert done.stdout.splitlines() == ["child ended with 0"], done.stderr
    assert value_in(tmp_path, "of the child") == 1.0

"""Whatever ends a take in the middle, what is found afterwards is the old snapshot or the new one.

Every test has its own process: engines are chosen, killed, forked and starved in it.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from sucrose import Snapshot

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.any_backend

PREAMBLE = """
import glob, os, signal, sys, threading, time
import torch
from sucrose import Snapshot, StateDict
from sucrose.errors import ForkError
from sucrose.storage import StagedDirectory

folder = sys.argv[1]
target = folder + "/s"

def state(numel, value):
    return {"state": StateDict(value=value, tensor=torch.full((numel,), value))}

def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def when_writing_begins(act):
    def watch():
        while not glob.glob(folder + "/.s.tmp*/data"):
            time.sleep(0.0005)
        act()
    threading.Thread(target=watch, daemon=True).start()
"""
SLOW = {"SUCROSE_WORKERS": "1", "SUCROSE_RING_SLOTS": "1", "SUCROSE_IO_DEPTH": "1"}
ENGINES = {
    "io_uring": {"SUCROSE_ENGINE": "native", "SUCROSE_IO_BACKEND": "auto"},
    "threads": {"SUCROSE_ENGINE": "native", "SUCROSE_IO_BACKEND": "threads"},
    "reference": {"SUCROSE_ENGINE": "reference"},
}


def run(
    code: str, folder: Path, environment: dict[str, str], *, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    program = [*prefix, sys.executable, "-c", PREAMBLE + code, str(folder)]
    return subprocess.run(
        program, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_take_killed_while_writing_leaves_the_old_snapshot(tmp_path: Path, engine: str) -> None:
    code = """
Snapshot.take(target, state(10, 1.0))
when_writing_begins(kill)
Snapshot.take(target, state(100_000_000, 2.0), overwrite=True)
"""
    assert run(code, tmp_path, ENGINES[engine] | SLOW).returncode == -signal.SIGKILL
    left = [path for path in tmp_path.iterdir() if path.name != "s"]
    assert all(path.name.startswith(".s.tmp-") for path in left)
    assert not any((path / ".snapshot_metadata").exists() for path in left)
    snapshot = Snapshot(tmp_path / "s")
    assert snapshot.verify()
    assert snapshot.read_object("0/state/value") == 1.0
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("moment", "survivor"),
    [("StagedDirectory.commit", 1.0), ("StagedDirectory.discard", 2.0)],
    ids=["before the commit", "after the commit"],
)
def test_a_take_killed_around_the_commit_leaves_one_whole_snapshot(
    tmp_path: Path, moment: str, survivor: float
) -> None:
    code = f"""
Snapshot.take(target, state(1000, 1.0))
{moment} = kill
Snapshot.take(target, state(1000, 2.0), overwrite=True)
"""
    assert run(code, tmp_path, {}).returncode == -signal.SIGKILL
    snapshot = Snapshot(tmp_path / "s")
    assert snapshot.verify()
    assert snapshot.read_object("0/state/value") == survivor
    assert snapshot.read_object("0/state/tensor").sum() == 1000 * survivor


def test_a_first_take_that_is_killed_leaves_nothing_that_looks_like_a_snapshot(tmp_path: Path) -> None:
    done = run("StagedDirectory.commit = kill; Snapshot.take(target, state(1000, 1.0))", tmp_path, {})
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "s").exists()
    assert all(path.name.startswith(".") for path in tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        Snapshot(tmp_path / "s").restore({})


@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_ends_a_take_and_leaves_nothing(tmp_path: Path, engine: str) -> None:
    code = """
when_writing_begins(lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    Snapshot.take(target, state(150_000_000, 1.0))
except KeyboardInterrupt:
    print("interrupted", os.listdir(folder))
Snapshot.take(target, state(1000, 2.0))
print(bool(Snapshot(target).verify()), os.listdir(folder))
"""
    done = run(code, tmp_path, ENGINES[engine] | SLOW)
    assert done.stdout.splitlines() == ["interrupted []", "True ['s']"], done.stderr


FORK = """
child = os.fork()
if child == 0:
    try:
        Snapshot.take(folder + "/child", state(1000, 2.0))
    except ForkError as error:
        print(os.getppid(), os.getpid(), error, flush=True)
    else:
        print("taken", flush=True)
    os._exit(0)
os.waitpid(child, 0)
Snapshot.take(folder + "/parent", state(1000, 3.0))
print(sorted(os.listdir(folder)))
"""


def test_use_after_a_fork_is_an_error_that_names_both_processes(tmp_path: Path) -> None:
    done = run("Snapshot.take(target, state(1000, 1.0))" + FORK, tmp_path, {"SUCROSE_ENGINE": "native"})
    report, listing = done.stdout.splitlines()  # of small states: torch's own threads do not survive forks either
    parent, child, message = report.split(" ", 2)
    assert parent in message
    assert child in message
    assert listing == "['parent', 's']"
    assert Snapshot(tmp_path / "parent").verify()


@pytest.mark.parametrize(("first", "engine"), [("", "native"), ("Snapshot.take(target, state(9, 1.0))", "reference")])
def test_a_forked_process_may_use_an_engine_of_its_own(tmp_path: Path, first: str, engine: str) -> None:
    done = run(first + FORK, tmp_path, {"SUCROSE_ENGINE": engine})
    assert done.stdout.splitlines()[0] == "taken", done.stderr
    assert Snapshot(tmp_path / "child").verify()


SMALL_DISK = """
def attempt(numel):
    try:
        Snapshot.take(target, state(numel, 2.0), overwrite=True)
    except OSError as error:
        print(error.errno, end=" ")
    print(os.listdir(folder), Snapshot(target).read_object("0/state/value"), bool(Snapshot(target).verify()))

Snapshot.take(target, state(500_000, 1.0))
attempt(6_000_000)
attempt(500_000)
"""


def small_disk(folder: Path) -> tuple[str, ...]:
    """What to put before a command so that `folder` is a disk of 16 MiB for it."""
    mount = f'mount -t tmpfs -o size=16m none "{folder}" && exec "$@"'
    for unshare in (("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")):
        prefix = (*unshare, "sh", "-c", mount, "sh")
        if (
            shutil.which("unshare")
            and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
        ):
            return prefix
    pytest.skip("this system does not let us mount a small file system")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("direct_min_nbytes", [0, 1 << 40], ids=["direct", "buffered"])
def test_a_full_disk_leaves_the_old_snapshot_and_room_for_a_smaller_one(
    tmp_path: Path, engine: str, direct_min_nbytes: int
) -> None:
    environment = ENGINES[engine] | {"SUCROSE_DIRECT_MIN_NBYTES": str(direct_min_nbytes)}
    done = run(SMALL_DISK, tmp_path, environment, prefix=small_disk(tmp_path))
    assert done.stdout.splitlines() == [f"{errno.ENOSPC} ['s'] 1.0 True", "['s'] 2.0 True"], done.stderr


def test_a_program_that_used_the_engine_ends_with_its_own_exit_code(tmp_path: Path) -> None:
    done = run("Snapshot.take(target, state(1000, 1.0)); sys.exit(7)", tmp_path, {})
    assert done.returncode == 7

"""Programs with one state, `progress`, each in a process of its own (warm_python.py), and what they leave behind."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING

from warm_python import RunningProgram, WarmPython

from sucrose.catalog import Catalog
from sucrose.state.catalog_states import CatalogStates
from sucrose.state.local import LocalCheckpoints
from sucrose.state.values import thaw

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

PREAMBLE = """
import atexit, errno, logging, os, signal, sys, threading, time
folder = sys.argv[1]
BEFORE
from sucrose.state.group import StateManagerGroup
from sucrose.state.local import LocalCheckpoints
from sucrose.storage import StagedDirectory

group = StateManagerGroup()
group.register("progress")
progress = group.get("progress") or {"step": 0}
group.update("progress", progress)

def term():
    os.kill(os.getpid(), signal.SIGTERM)

def say(*words):
    print(" ".join(map(str, words)) + "\\n", end="", flush=True)  # whole lines, whoever else prints

def slowly(seconds=0.3):
    commit = StagedDirectory.commit
    def slow(*args, **kwargs):
        say("committing")
        for _ in range(round(seconds * 100)):  # a signal that comes just before a sleep does not end that one
            time.sleep(0.01)
        commit(*args, **kwargs)
    StagedDirectory.commit = slow

def held():
    commit = StagedDirectory.commit
    def hold(*args, **kwargs):
        say("committing")
        while not os.path.exists(f"{folder}/go on"):
            time.sleep(0.01)
        commit(*args, **kwargs)
    StagedDirectory.commit = hold

def go_on():
    open(f"{folder}/go on", "w").close()

def failing(times=1000):
    save, left = StagedDirectory.commit, [times]
    def fail(staged, *args, **kwargs):
        if left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), staged.root)
        save(staged, *args, **kwargs)
    StagedDirectory.commit = fail

def in_child(act):
    child = os.fork()
    if child == 0:
        act()
        os._exit(77)
    say("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

_WARM_PYTHON = WarmPython(preload="import torch, sucrose.state.group, sucrose.state.local")
atexit.register(_WARM_PYTHON.close)


def start(code: str, folder: Path, *, before: str = "", settings: str = "", **options: str) -> RunningProgram:
    """Begins to run `code`; `before` goes before the group is made."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LATTICE_", "XDG_"))}
    environment["HOME"] = str(folder)
    environment["LATTICE_CHECKPOINT_CONFIG"] = f"root={folder}/states" + (f",{settings}" if settings else "")
    environment.update(options)
    return _WARM_PYTHON.start(PREAMBLE.replace("BEFORE", before) + code, [str(folder)], environment)


def run(
    code: str, folder: Path, *, before: str = "", settings: str = "", timeout_s: float = 120, **options: str
) -> subprocess.CompletedProcess[str]:
    """Runs `code` to its end."""
    return start(code, folder, before=before, settings=settings, **options).wait(timeout_s)


def go_on(folder: Path) -> None:
    """Lets the program whose commits are `held` commit."""
    (folder / "go on").touch()


def saved_step(folder: Path) -> int | None:
    """The step in the newest generation; None where there is none."""
    newest = LocalCheckpoints(f"{folder}/states", keep_last=None).newest()
    return None if newest is None else _step(newest)


def saved_steps(folder: Path) -> list[int]:
    """The steps of all generations, oldest first."""
    steps = []
    for generation in Catalog(f"{folder}/states").generations():
        with generation.lease() as lease:
            steps.append(_step(CatalogStates(generation, lease, None)))
    return steps


def _step(states: CatalogStates) -> int:
    step: int = thaw(states.read("progress"), key="progress", source="a test", distrust=None)["step"]
    return step


def count_generations(folder: Path) -> int:
    """Complete ones."""
    return len(Catalog(f"{folder}/states").generations())

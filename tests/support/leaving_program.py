"""Programs with something that saves itself at the end, each in a process of its own (warm_python.py)."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING

from warm_python import RunningProgram, WarmPython

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

PREAMBLE = """
import os, signal, sys, threading, time
folder = sys.argv[1]
BEFORE
import torch
from torch.utils.data import DataLoader
from sucrose.data_order import track_loader
from sucrose.scenarios import leaving

def term():
    os.kill(os.getpid(), signal.SIGTERM)

def say(*words):
    print(" ".join(map(str, words)) + "\\n", end="", flush=True)  # whole lines, whoever else prints

class Counter:
    "Odd in the middle of a batch. Each line of its file is a save."
    is_held = False

    def __init__(self, name="saves"):
        self.where = f"{folder}/{name}"
        self.value = 0
        self.saved = None
        leaving.on_leaving(self)

    def save_before_end(self, *, at_boundary):
        if self.saved == self.value:
            return
        say("saving")
        while self.is_held and not os.path.exists(f"{folder}/go on"):
            time.sleep(0.01)
        with open(self.where, "a") as file:
            print(self.value, "at a boundary" if at_boundary else "at the end", file=file)
        self.saved = self.value

    def expected_s(self):
        return 0.0

class Failing(Counter):
    def save_before_end(self, *, at_boundary):
        raise OSError(28, "No space left on device")

def loader_of(length=4):
    return DataLoader(torch.arange(length))

def tracked(loader):
    leaving.use_boundaries()
    return track_loader(loader, leaving.at_boundary)

def train(counter, loader, act=lambda: None, at=3, epochs=2):
    for epoch in range(epochs):
        for batch in loader:
            counter.value += 1
            note(counter.value)
            if counter.value == at:
                act()
            counter.value += 1
            note(counter.value)

def note(value):
    pass
"""

GROUP = """
from sucrose.state.group import StateManagerGroup
group = StateManagerGroup()
group.register("progress")
progress = {"step": 0}
group.update("progress", progress)

def note(value):
    progress["step"] = value
"""

_WARM_PYTHON = WarmPython(
    preload="import torch, torch._dynamo, torch.utils.data, sucrose.state.group, sucrose.state.local\n"
    "import sucrose.data_order, sucrose.scenarios.leaving, sucrose.scenarios.scenario"
)
atexit.register(_WARM_PYTHON.close)


def start(code: str, folder: Path, *, before: str = "", has_group: bool = False, **options: str) -> RunningProgram:
    """Begins to run `code`; `before` goes before everything else."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LATTICE_", "XDG_"))}
    environment["HOME"] = str(folder)
    environment["LATTICE_CHECKPOINT_CONFIG"] = f"root={folder}/states"
    environment.update(options)
    program = PREAMBLE.replace("BEFORE", before) + (GROUP if has_group else "") + code
    return _WARM_PYTHON.start(program, [str(folder)], environment)


def run(
    code: str, folder: Path, *, before: str = "", has_group: bool = False, timeout_s: float = 120, **options: str
) -> subprocess.CompletedProcess[str]:
    """Runs `code` to its end."""
    return start(code, folder, before=before, has_group=has_group, **options).wait(timeout_s)


def go_on(folder: Path) -> None:
    """Lets the saves of a program whose counters are held come to their ends."""
    (folder / "go on").touch()


def saves(folder: Path, name: str = "saves") -> list[str]:
    """Of one counter, in order."""
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []

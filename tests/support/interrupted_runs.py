"""Unmodified training scripts under autopatch, each run in a process of its own, interrupted at a given moment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from warm_python import WarmPython

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPTS = Path(__file__).parents[1] / "autopatch" / "scripts"

_PRELOAD = """
import numpy, torch, torch._dynamo, torch.utils.data
import sucrose.autopatch.manager, sucrose.autopatch.patches, sucrose.state.group, sucrose.state.local
import sucrose.catalog
import importlib.util
if importlib.util.find_spec("torchdata"):
    import torchdata.stateful_dataloader
"""

# A moment is "<kind> <n>": just before the n-th linear layer is computed or line is printed, or just after the n-th
# step of an optimizer.
_PROGRAM = """
import builtins, os, signal, sys

def arm(kind, number, action):
    import torch
    import torch.nn.functional as F
    from torch.optim.optimizer import register_optimizer_step_post_hook
    seen = 0

    def look(*_):
        nonlocal seen
        seen += 1
        if seen == number:
            if action == "sys.exit":
                sys.exit(3)
            elif action == "raise":
                raise RuntimeError("the moment has come")
            else:
                os.kill(os.getpid(), signal.Signals[action])

    def before(function):
        def wrapper(*args, **kwargs):
            look()
            return function(*args, **kwargs)
        return wrapper

    if kind == "linear":
        F.linear = before(F.linear)
    elif kind == "print":
        builtins.print = before(print)
    else:
        register_optimizer_step_post_hook(look)

script, folder, moment, action = sys.argv[1:]
os.chdir(folder)
import sucrose.autopatch.startup
import torch
torch.set_num_threads(1)
if moment:
    kind, number = moment.split()
    arm(kind, int(number), action)
from sucrose.autopatch.running import run_script
run_script(script, [])
"""


class Runs:
    """Runs of scripts, each script in its folder."""

    def __init__(self) -> None:
        self._python = WarmPython(_PRELOAD)

    def run(
        self,
        script: Path,
        folder: Path,
        moment: str = "",
        action: str = "SIGTERM",
        *,
        settings: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Runs `script` until it ends, or until the moment at which the action ends it."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "LATTICE_AUTOPATCH": "torch",
            "LATTICE_LOGLEVEL": "INFO",
            **(settings or {}),
        }
        return self._python.run(_PROGRAM, [str(script), str(folder), moment, action], environment)

    def close(self) -> None:
        """Ends the server."""
        self._python.close()


def final_state(folder: Path) -> Any:
    """What the script has saved at its end."""
    return torch.load(folder / "final.pt")


def is_equal(one: Any, other: Any) -> bool:
    """Bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_equal, one, other))
    return bool(one == other)

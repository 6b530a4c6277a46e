"""Which GPU there is, asked in a process of its own: this one is to hold no memory of the device."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

_PROBE = """
import json, torch
found = {"torch": torch.__version__, "built_for": torch.version.cuda, "name": ""}
if torch.cuda.is_available():
    found["name"] = torch.cuda.get_device_name(0)
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """The first GPU; `name` is empty where there is none, and `missing` says why."""

    name: str
    missing: str


@cache
def first_gpu() -> Gpu:
    """The GPU that cases for one are measured on."""
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return Gpu(name="", missing=f"torch cannot say: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["name"]:
        return Gpu(name=found["name"], missing="")
    if not found["built_for"]:
        return Gpu(name="", missing=f"torch {found['torch']} is built without CUDA")
    return Gpu(name="", missing=f"torch {found['torch']} finds no CUDA device")

"""A file for `sucrose.load`, whoever wrote it."""

from __future__ import annotations

import io
from contextlib import suppress

import torch

from fuzz_targets.scratch import scratch_folder
from sucrose.errors import SucroseError
from sucrose.snapshot.single_file import load, save

_FOLDER = scratch_folder()


def seeds() -> dict[str, bytes]:
    """Our own, torch's, and torch's before 1.6."""
    state = {"w": torch.arange(5.0), "step": 3, "nested": [{"v": torch.ones(2, 2, dtype=torch.bfloat16)}]}
    save(state, _FOLDER / "seed.pt", durable=False)
    current, legacy = io.BytesIO(), io.BytesIO()
    torch.save(state, current)
    torch.save(state, legacy, _use_new_zipfile_serialization=False)
    return {
        "ours.pt": (_FOLDER / "seed.pt").read_bytes(), "torch.pt": current.getvalue(), "legacy.pt": legacy.getvalue()
    }  # fmt: skip


def check(data: bytes) -> None:
    """It loads or is refused, checksums compared or not."""
    path = _FOLDER / "file.pt"
    path.write_bytes(data)
    for verify in (True, False):
        with suppress(SucroseError, OSError):
            load(path, "cpu", verify=verify)

"""Makes the golden samples: run once for each version of the format, never for an existing one.

    PYTHONPATH=tests python tests/golden/make_golden.py

Every sample is a folder with a snapshot and with `expected.pt`, what must come out of it for ever.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from interop import states

from sucrose import RNGState, Snapshot, StateDict
from sucrose.formats.index import INDEX_VERSION

HERE = Path(__file__).resolve().parent
ORIGINAL = HERE.parent.parent / ".peers" / "torchsnapshot"


def make_ours(folder: Path) -> None:
    app_state = states.make_app_state(7, StateDict, RNGState)
    app_state["quantized"] = StateDict(q=states.quantized_tensors())
    app_state["newer dtypes"] = StateDict(
        **{
            str(dtype): torch.arange(8, dtype=torch.uint8).view(dtype)
            for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64)
        }
    )
    torch.manual_seed(5)
    Snapshot.take(folder / "snapshot", app_state)
    torch.save({"contents": states.contents(app_state), "drawn": torch.rand(3)}, folder / "expected.pt")


def make_originals(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        program = [sys.executable, str(HERE.parent / "interop" / "original.py"), "take", temporary]
        subprocess.run(program, env={**os.environ, "SUCROSE_ORIGINAL": str(ORIGINAL)}, check=True)
        shutil.copytree(Path(temporary, "batched"), folder / "snapshot")
        shutil.copy(Path(temporary, "expected.pt"), folder / "expected.pt")


def main() -> None:
    for name, make in ((f"format_{INDEX_VERSION}", make_ours), ("torchsnapshot_0.1.0", make_originals)):
        folder = HERE / name
        if not folder.exists():
            folder.mkdir()
            make(folder)


if __name__ == "__main__":
    main()

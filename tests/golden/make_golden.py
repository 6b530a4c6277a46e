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
from typing import Any

import torch
from interop import states

from sucrose import Compression, RNGState, Snapshot, StateDict

HERE = Path(__file__).resolve().parent
ORIGINAL = HERE.parent.parent / ".peers" / "torchsnapshot"


KEY = b"of the golden samples"


def make_format_1(folder: Path) -> None:
    """Without compression, base and signature, as releases before version 2 wrote all of them."""
    app_state = make_app_state()
    Snapshot.take(folder / "snapshot", app_state)
    torch.save({"contents": states.contents(app_state), "drawn": torch.rand(3)}, folder / "expected.pt")


def make_format_2(folder: Path) -> None:
    """With all that version 2 has: byte groups and plain frames, a base, and a signature."""
    app_state = make_app_state()
    large = large_tensors()
    app_state["large"] = large
    changed = large["changed"][-1].clone()
    large["changed"][-1] = 0
    Snapshot.take(folder / "base", app_state, compression=Compression(), signing_key=KEY)
    large["changed"][-1] = changed
    app_state["layouts"]["changed"] = torch.arange(1000)
    torch.manual_seed(5)
    Snapshot.take(folder / "snapshot", app_state, compression="zstd:3", base=folder / "base", signing_key=KEY)
    del app_state["large"]
    torch.save({"contents": states.contents(app_state), "drawn": torch.rand(3)}, folder / "expected.pt")


def large_tensors() -> StateDict:
    """Of more than one chunk; too large for `expected.pt`."""
    numbers = torch.arange(5 << 19) % 251
    kept = numbers[: 3 << 19].bfloat16()
    return StateDict(kept=kept.view(-1, 1 << 10), changed=(2 * numbers).half().view(-1, 1 << 10))


def make_app_state() -> dict[str, Any]:
    """A state with something of everything, and the random numbers that go with it."""
    app_state = states.make_app_state(7, StateDict, RNGState)
    app_state["quantized"] = StateDict(q=states.quantized_tensors())
    app_state["newer dtypes"] = StateDict(
        **{
            str(dtype): torch.arange(8, dtype=torch.uint8).view(dtype)
            for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64)
        }
    )
    torch.manual_seed(5)
    return app_state


def make_originals(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        program = [sys.executable, str(HERE.parent / "interop" / "original.py"), "take", temporary]
        subprocess.run(program, env={**os.environ, "SUCROSE_ORIGINAL": str(ORIGINAL)}, check=True)
        shutil.copytree(Path(temporary, "batched"), folder / "snapshot")
        shutil.copy(Path(temporary, "expected.pt"), folder / "expected.pt")


def main() -> None:
    samples = (("format_1", make_format_1), ("format_2", make_format_2), ("torchsnapshot_0.1.0", make_originals))
    for name, make in samples:
        folder = HERE / name
        if not folder.exists():
            folder.mkdir()
            make(folder)


if __name__ == "__main__":
    main()

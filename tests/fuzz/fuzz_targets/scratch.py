"""Where targets put files: in memory, where the machine has a place for that."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path


def scratch_folder() -> Path:
    """A new folder that is gone when the program ends."""
    in_memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="fuzz-", dir=in_memory if in_memory.is_dir() else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)

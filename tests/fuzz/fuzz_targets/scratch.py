"""Where targets put files."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_MEMORY = "/dev/shm"


def scratch_folder() -> Path:
    """A new folder that is gone when the program ends; in memory, as a disk would take most of the time."""
    folder = tempfile.mkdtemp(prefix="fuzz-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)

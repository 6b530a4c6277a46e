"""Which files in a run's folder of logs are the run's: no torch, no tensorboard.

TensorBoard loads each file with ``tfevents`` in its name, in every folder below, and so does this, but for folders of
runs inside this one: scenario ``base`` logs into ``logs/base``, and ``base/case1`` into ``logs/base/case1``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

MARKER = ".sucrose-logs"
"""An empty file in each folder that is a scenario's own."""

SUPERSEDED = re.compile(r"superseded-(\d+)")
"""Names of folders with what attempts have logged that were gone back behind."""


def mark(log_dir: str) -> None:
    """Makes the folder, and says that it is a scenario's."""
    os.makedirs(log_dir, exist_ok=True)
    with open(os.path.join(log_dir, MARKER), "ab"):
        pass


def folders(log_dir: str) -> Iterator[tuple[str, list[str]]]:
    """Folders of the run, and the names of the files in each.

    Yields:
        The path relative to `log_dir` (of that itself an empty one) and the names, sorted.
    """
    for folder, subfolders, names in os.walk(log_dir):
        is_nested = folder != log_dir and MARKER in names
        if is_nested:
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not SUPERSEDED.fullmatch(name))
        relative = os.path.relpath(folder, log_dir)
        yield "" if relative == os.curdir else relative, sorted(names)


def event_files(log_dir: str) -> dict[str, list[str]]:
    """Event files of each folder that has some, oldest first; all paths are relative to `log_dir`."""
    found = {}
    for folder, names in folders(log_dir):
        files = [os.path.join(folder, name) for name in names if "tfevents" in name]
        files = [path for path in files if os.path.isfile(os.path.join(log_dir, path))]  # and no link to nowhere
        if files:
            found[folder] = files
    return found


def sizes(log_dir: str) -> dict[str, int]:
    """Bytes of each event file."""
    found = {}
    for paths in event_files(log_dir).values():
        for path in paths:
            try:
                found[path] = os.stat(os.path.join(log_dir, path)).st_size
            except FileNotFoundError:  # removed by the user since it was listed
                continue
    return found

"""Where the event files of a workspace's runs lie.

A run is a folder with event files, named by its path below the folder of logs, as in TensorBoard: that of a
scenario is called as the scenario, and `add_scalars` makes others below it. Folders named ``superseded-<n>`` hold
what was logged by attempts that a resume has gone back behind.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass

from sucrose.scenarios.tensorboard.log_folder import SUPERSEDED

_HEAD_NBYTES = 21


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run.

    Attributes:
        name: segments between ``/``; ``.`` for the folder of logs itself.
        files: paths of its event files, oldest first: one for each attempt, at least.
    """

    name: str
    files: tuple[str, ...]


def find_runs(logs_dir: str, *, attempts: bool = False) -> list[RunFolder]:
    """All runs, by name; none where there is no such folder.

    Args:
        logs_dir: the folder of logs. Links to folders are followed.
        attempts: whether superseded attempts count as runs, too.
    """
    runs = []
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(logs_dir, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # links can lead in circles
            subfolders.clear()
            continue
        seen.add(real)
        if not attempts:
            subfolders[:] = [name for name in subfolders if not SUPERSEDED.fullmatch(name)]
        name = os.path.relpath(folder, logs_dir).replace(os.sep, "/")
        is_superseded = any(SUPERSEDED.fullmatch(segment) for segment in name.split("/"))
        files = [os.path.join(folder, file) for file in names if _is_event_file(file, is_superseded=is_superseded)]
        files = [path for path in files if os.path.isfile(path)]  # and no link to nowhere
        if files:
            runs.append(RunFolder(name, tuple(sorted(files, key=_age))))
    return sorted(runs, key=lambda run: run.name)


def _is_event_file(name: str, *, is_superseded: bool) -> bool:
    """As TensorBoard tells; what was superseded has names that it does not take for those of event files."""
    return "tfevents" in name or (is_superseded and not name.startswith("."))


def _age(path: str) -> tuple[float, str]:
    """When the first event was written: the names tell seconds only, and process numbers have no order."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_NBYTES)
    except OSError:  # whoever reads all of it tells
        head = b""
    is_timed = len(head) == _HEAD_NBYTES and head[12] == 0x09  # behind the frame the field wall_time
    return struct.unpack_from("<d", head, 13)[0] if is_timed else math.inf, path

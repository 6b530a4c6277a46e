"""How many bytes the files of a scenario have, told apart by what they are for."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

_SET_ASIDE = re.compile(r"quarantine|superseded-\d+")
_EVENT_FILE = re.compile(r"tfevents\.(\d{10})\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """Bytes of the files of one scenario; a file with several names counts once.

    Attributes:
        nbytes: of everything, with what was set aside, put into quarantine or left by crashes.
        checkpoints_nbytes: of checkpoints that count.
        logs_nbytes: of logs, without superseded attempts.
        first_log_ns: when the oldest event file was begun, which its name tells; None where there is none.
    """

    nbytes: int
    checkpoints_nbytes: int
    logs_nbytes: int
    first_log_ns: int | None


def disk_use(ckpts_dir: str, logs_dir: str, checkpoints: Collection[str], others: Collection[str]) -> DiskUse:
    """Adds up what one scenario takes.

    Args:
        ckpts_dir: folder of its checkpoints; it need not exist.
        logs_dir: folder of its logs, which may be the same one.
        checkpoints: names in `ckpts_dir` that count as checkpoints.
        others: folders of other scenarios, which may lie below these and do not count.
    """
    total = of_checkpoints = of_logs = 0
    begun = []
    for folder in dict.fromkeys((ckpts_dir, logs_dir)):
        for path, nbytes in _files(folder, frozenset(others)):
            top, _, below = path[len(folder) + 1 :].partition(os.sep)
            total += nbytes
            if folder == ckpts_dir and top in checkpoints:
                of_checkpoints += nbytes
            elif folder == logs_dir:
                of_logs += 0 if below and _SET_ASIDE.fullmatch(top) else nbytes
                match = _EVENT_FILE.search(os.path.basename(path))
                begun += [int(match[1]) * 10**9] if match else []
    return DiskUse(
        nbytes=total,
        checkpoints_nbytes=of_checkpoints,
        logs_nbytes=of_logs,
        first_log_ns=min(begun, default=None),
    )


def _files(folder: str, others: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Paths and sizes. What cannot be read, or goes away meanwhile, counts nothing."""
    seen: set[tuple[int, int]] = set()
    folders = [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in others:
                    folders.append(entry.path)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            yield entry.path, status.st_size

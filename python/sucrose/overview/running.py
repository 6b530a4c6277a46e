"""Whether somebody is at work in a folder: a scenario's writer of logs holds a lease on its folder, which is a lock.

The kernel's list of locks is read instead of trying whether a lock can be had: that would get in the way of a run
that begins at this moment. It knows of programs of this machine alone, and some kernels do not show it to everybody.
"""

from __future__ import annotations

import os
import re

_LOCKS = "/proc/locks"
_FLOCK = re.compile(r"^\d+: FLOCK .* ([0-9a-f]+):([0-9a-f]+):(\d+) \d+ EOF$", re.MULTILINE)


def locked_inodes() -> frozenset[tuple[int, int, int]]:
    """What is locked now, as a whole: major and minor number of the device, and inode. Empty where that is unknown."""
    try:
        with open(_LOCKS, encoding="ascii", errors="replace") as file:
            listed = file.read()
    except OSError:
        return frozenset()
    return frozenset((int(major, 16), int(minor, 16), int(inode)) for major, minor, inode in _FLOCK.findall(listed))


def is_locked(folder: str, locked: frozenset[tuple[int, int, int]]) -> bool:
    """Whether `folder` is among those of `locked_inodes`."""
    try:
        status = os.stat(folder)
    except OSError:
        return False
    return (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino) in locked

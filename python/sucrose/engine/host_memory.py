"""How much host memory a process may still take: what the kernel has, and what its cgroups allow.

In a container the kernel's own figure is that of the whole machine, and a process that believes it
is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath


def free_host_nbytes(root: str = "/") -> int:
    """Bytes that this process can allocate without swapping and without passing a cgroup's limit.

    Page cache that can be dropped counts as free, of the machine's and of a cgroup's: whoever writes
    checkpoints fills it, and the kernel gives it back on demand.

    Args:
        root: folder in which ``proc`` and ``sys`` lie.
    """
    base = Path(root)
    return max(0, min(_available_nbytes(base), *_left_in_cgroups(base)))


def _available_nbytes(base: Path) -> int:
    available = _fields(base / "proc/meminfo").get("MemAvailable:")
    if available is not None:
        return available * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_cgroups(base: Path) -> Iterator[int]:
    """What is left below the limit of each cgroup that this process is in."""
    yield 1 << 63  # no limit
    for line in _text(base / "proc/self/cgroup").splitlines():
        hierarchy, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "", "")
        mounted = base / "sys/fs/cgroup"
        if hierarchy == "0" and not controllers:
            names = "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            mounted /= "memory"
        else:
            continue
        for folder in _with_parents(mounted, path):
            yield from _left_below_limit(folder, *names)


def _with_parents(mounted: Path, path: str) -> Iterator[Path]:
    """The cgroup's folder and those above it; inside a container some may not be visible."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for depth in range(len(parts), -1, -1):
        yield mounted.joinpath(*parts[:depth])


def _left_below_limit(folder: Path, limit_file: str, usage_file: str, droppable: str) -> Iterator[int]:
    try:
        limit = int(_text(folder / limit_file))
        usage = int(_text(folder / usage_file))
    except ValueError:  # no such file, or "max": no limit
        return
    yield limit - usage + _fields(folder / "memory.stat").get(droppable, 0)


def _fields(path: Path) -> dict[str, int]:
    """Lines that begin with a name and a number."""
    found = {}
    for line in _text(path).splitlines():
        words = line.split()
        with suppress(IndexError, ValueError):
            found[words[0]] = int(words[1])
    return found


def _text(path: Path) -> str:
    """Contents of a file, empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

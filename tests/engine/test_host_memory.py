"""What a process may still allocate, in fake trees of ``/proc`` and ``/sys``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sucrose.engine.host_memory import free_host_nbytes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.any_backend

KIB = 1024
MEMINFO = "MemTotal:  4000 kB\nMemFree:  100 kB\nMemAvailable:   1000 kB\n"


def make_tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_without_cgroups_it_is_what_the_kernel_has(tmp_path: Path) -> None:
    assert free_host_nbytes(make_tree(tmp_path, {"proc/meminfo": MEMINFO})) == 1000 * KIB


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"job/step/memory.max": "500000", "job/step/memory.current": "100000"}, 400_000),
        ({"job/memory.max": "500000", "job/memory.current": "300000"}, 200_000),
        ({"memory.max": "500000", "memory.current": "450000"}, 50_000),
        ({"job/step/memory.max": "max", "job/step/memory.current": "300000"}, 1000 * KIB),
        ({"job/memory.max": "500000", "job/memory.current": "600000"}, 0),
        ({"job/memory.max": "500000"}, 1000 * KIB),
        ({"job/memory.max": "9" * 18, "job/memory.current": "0"}, 1000 * KIB),
        (
            {
                "job/memory.max": "500000",
                "job/memory.current": "490000",
                "job/memory.stat": "anon 5\ninactive_file 90000\n",
            },
            100_000,
        ),
    ],
    ids=[
        "its own",
        "of a parent",
        "of the root",
        "no limit",
        "over the limit",
        "no usage",
        "larger than the machine",
        "page cache can be dropped",
    ],
)
def test_a_cgroup_lowers_it_to_what_is_left_below_the_limit(
    tmp_path: Path, limits: dict[str, str], expected: int
) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/job/step\n"}
    files |= {f"sys/fs/cgroup/{name}": text for name, text in limits.items()}
    assert free_host_nbytes(make_tree(tmp_path, files)) == expected


def test_the_first_version_of_cgroups_counts_too(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "700000",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "200000",
        "sys/fs/cgroup/memory/job/memory.stat": "total_inactive_file 1000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "200000",
    }
    assert free_host_nbytes(make_tree(tmp_path, files)) == 501_000


def test_a_cgroup_seen_from_inside_a_container_is_the_root(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/../../other/scope\n",
        "sys/fs/cgroup/memory.max": "500000",
        "sys/fs/cgroup/memory.current": "100000",
    }
    assert free_host_nbytes(make_tree(tmp_path, files)) == 400_000


@pytest.mark.parametrize("cgroup", ["", "nonsense\n", "0::\n", "::\n4:memory\n"])
def test_files_that_are_missing_or_odd_are_passed_over(tmp_path: Path, cgroup: str) -> None:
    assert free_host_nbytes(make_tree(tmp_path, {"proc/self/cgroup": cgroup})) > 0


def test_this_machine_has_some_left() -> None:
    assert free_host_nbytes() > 0

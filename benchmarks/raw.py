"""The raw limit of the storage: what ``fio`` reaches on the same file system in the same rounds."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.client import ContenderError
from benchmarks.files import drop_page_cache, remove

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
_GRANULE_NBYTES = 64 * MIB
"""Sizes are rounded up to this, so that every job has whole blocks; times are scaled back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FioJob:
    """One way to read or write a file as fast as fio can."""

    name: str
    write: bool
    engine: str
    direct: bool
    block_mib: int
    depth: int = 1
    jobs: int = 1

    def arguments(self, path: Path, nbytes: int) -> list[str]:
        """The command line; several jobs share one file, each with a part of its own."""
        each = nbytes // self.jobs
        return [
            "fio",
            "--name=raw",
            "--output-format=json",
            "--group_reporting",
            "--thread",
            f"--filename={path}",
            f"--rw={'write' if self.write else 'read'}",
            f"--ioengine={self.engine}",
            f"--direct={int(self.direct)}",
            f"--bs={self.block_mib}m",
            f"--iodepth={self.depth}",
            f"--numjobs={self.jobs}",
            f"--size={each}",
            f"--offset_increment={each}",
            *(["--end_fsync=1"] if self.write else []),
        ]


WRITES = (
    FioJob(name="fio io_uring direct 4m, depth 8", write=True, engine="io_uring", direct=True, block_mib=4, depth=8),
    FioJob(name="fio io_uring direct 1m, depth 32", write=True, engine="io_uring", direct=True, block_mib=1, depth=32),
    FioJob(name="fio psync buffered 4m", write=True, engine="psync", direct=False, block_mib=4),
)
TMPFS_WRITES = (
    FioJob(name="fio psync buffered 4m", write=True, engine="psync", direct=False, block_mib=4),
    FioJob(name="fio psync buffered 4m, 4 jobs", write=True, engine="psync", direct=False, block_mib=4, jobs=4),
    FioJob(name="fio psync buffered 4m, 8 jobs", write=True, engine="psync", direct=False, block_mib=4, jobs=8),
)
READS = (
    FioJob(name="fio io_uring direct 8m, depth 16", write=False, engine="io_uring", direct=True, block_mib=8, depth=16),
    FioJob(name="fio io_uring direct 1m, depth 32", write=False, engine="io_uring", direct=True, block_mib=1, depth=32),
    FioJob(name="fio psync direct 8m, 8 jobs", write=False, engine="psync", direct=True, block_mib=8, jobs=8),
    FioJob(name="fio psync buffered 4m", write=False, engine="psync", direct=False, block_mib=4),
    FioJob(name="fio psync buffered 1m, 4 jobs", write=False, engine="psync", direct=False, block_mib=1, jobs=4),
)


def fio_version() -> str:
    """Raises `ContenderError` where fio is not installed."""
    if shutil.which("fio") is None:
        raise ContenderError("fio is not installed (apt install fio)")
    return subprocess.run(["fio", "--version"], capture_output=True, text=True, check=True).stdout.strip()


def run_fio(job: FioJob, path: Path, nbytes: int) -> float:
    """Seconds that `nbytes` take at the rate of `job`. A write leaves a new file, a read reads it cold."""
    rounded = -(-nbytes // _GRANULE_NBYTES) * _GRANULE_NBYTES
    if job.write:
        remove(path)
    else:
        drop_page_cache(path)
    done = subprocess.run(job.arguments(path, rounded), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ContenderError(f"fio: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    report = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["write" if job.write else "read"]
    seconds: float = max(report["runtime"], 1) / 1000 * nbytes / report["io_bytes"]
    return seconds

"""What the kernel or the file system refuses is done without: every way of saving and restoring works all the same."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from warm_python import WarmPython

if TYPE_CHECKING:
    from collections.abc import Iterator

SUPPORT = Path(__file__).parents[1] / "support"

PROGRAM = """
import json, sys
folder, call, code = sys.argv[1:]
from refused_calls import refuse
try:
    if call != "nothing":
        refuse(call, int(code))
except OSError as error:
    print(json.dumps({"skip": str(error)}))
    sys.exit()

import os
import torch
import sucrose
from sucrose import Catalog, Snapshot, StateDict
from sucrose.engine import get_engine

def state(value, numel=1_200_000):
    return {"state": StateDict(tensor=torch.full((numel,), value), small=torch.full((3,), value), value=(value, "é"))}

def check(found, value):
    assert found["tensor"].eq(value).all() and found["small"].eq(value).all() and found["value"] == (value, "é"), found

target = folder + "/s"
Snapshot.take(target, state(1.0))
Snapshot.take(target, state(2.0), overwrite=True)
pending = Snapshot.async_take(target, state(3.0), overwrite=True)
pending.wait()
found = state(0.0)
Snapshot(target).restore(found)
check(found["state"], 3.0)
assert Snapshot(target).verify()
catalog = Catalog(folder + "/catalog", keep_last=2)
for step in (1, 2, 3, 4):
    catalog.save(step, state(float(step)))
catalog.collect()
found = state(0.0)
assert catalog.restore_latest(found).step == 4
check(found["state"], 4.0)
assert catalog.steps() == [3, 4]
sucrose.save(state(5.0)["state"], folder + "/f.pt")
check(sucrose.load(folder + "/f.pt", weights_only=False), 5.0)
left = [name for _, folders, names in os.walk(folder) for name in (*folders, *names) if ".tmp-" in name]
print(json.dumps({"stats": get_engine().stats(), "left": left}, default=str))
"""


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    python = WarmPython(f"import sys; sys.path.insert(0, {str(SUPPORT)!r}); import torch, sucrose.catalog")
    yield python
    python.close()


def run(python: WarmPython, folder: Path, call: str, code: int, engine: str) -> dict[str, object]:
    environment = {
        **os.environ,
        "HOME": str(folder),
        "SUCROSE_ENGINE": engine,
        "SUCROSE_DIRECT_MIN_NBYTES": "4096",
    }
    done = python.run(PROGRAM, [str(folder), call, str(code)], environment)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    if "skip" in said:
        pytest.skip(f"this system takes no seccomp filter: {said['skip']}")
    assert said["left"] == []
    return dict(said["stats"])


@pytest.mark.parametrize("code", ["EPERM", "ENOSYS"])
def test_where_io_uring_is_forbidden_threads_do_its_work(tmp_path: Path, python: WarmPython, code: str) -> None:
    usual = run(python, tmp_path / "usual", "nothing", 0, "native")
    stats = run(python, tmp_path / "forbidden", "io_uring_setup", getattr(errno, code), "native")
    assert stats["io_backend"] == "threads"
    assert stats["written_nbytes"] == usual["written_nbytes"]


CALLS = {
    "O_DIRECT at open": ("O_DIRECT", errno.EINVAL),
    "fallocate, EOPNOTSUPP": ("fallocate", errno.EOPNOTSUPP),
    "fallocate, ENOSYS": ("fallocate", errno.ENOSYS),
    "exchange of directories, ENOSYS": ("renameat2", errno.ENOSYS),
    "exchange of directories, EINVAL": ("renameat2", errno.EINVAL),
    "locks, ENOLCK": ("flock", errno.ENOLCK),
    "locks, ENOTSUP": ("flock", errno.ENOTSUP),
    "early write-back": ("sync_file_range", errno.ENOSYS),
    "advice about memory": ("madvise", errno.EINVAL),
    "what is in the page cache": ("mincore", errno.ENOSYS),
    "how much is free": ("statfs", errno.ENOSYS),
}


ENGINES = [
    *(("native", what) for what in CALLS),
    *(("reference", what) for what in CALLS if what.startswith(("exchange", "locks", "how much"))),
]


@pytest.mark.parametrize(("engine", "what"), ENGINES)
def test_a_call_that_is_refused_is_done_without(tmp_path: Path, python: WarmPython, engine: str, what: str) -> None:
    call, code = CALLS[what]
    stats = run(python, tmp_path / "s", call, code, engine)
    if engine == "native" and call == "O_DIRECT":
        assert stats["direct_files"] == 0

"""A thousand saves leave a process as large as a hundred: memory, descriptors, threads, and nothing on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch
from engine_in_use import put_to_use
from fake_cuda import AVAILABLE, LIBRARY, FakeCuda
from warm_python import WarmPython

from sucrose import Snapshot, StateDict
from sucrose.engine import make_engine
from sucrose.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

SUPPORT = Path(__file__).parents[1] / "support"
SAVES = 1000
MIB = 1 << 20

PROGRAM = """
import gc, json, os, sys, threading, torch
import sucrose
from sucrose import Catalog, Snapshot, StateDict

folder, saves = sys.argv[1], int(sys.argv[2])
state = StateDict(weight=torch.zeros(300_000), small=torch.zeros(3), step=0, object=(1, "two"))
catalog = Catalog(folder + "/catalog", keep_last=2)

def save(step):
    state["weight"].fill_(step)
    state["step"] = step
    kind = step % 4
    if kind == 0:
        Snapshot.take(folder + "/s", {"state": state}, overwrite=True, durable=False)
    elif kind == 1:
        Snapshot.async_take(folder + "/s", {"state": state}, overwrite=True, durable=False).wait()
    elif kind == 2:
        catalog.save(step, {"state": state}, durable=False)
    else:
        sucrose.save(dict(state), folder + "/s.pt", durable=False)

def measure():
    catalog.collect()
    for thread in threading.enumerate():
        if thread.name == "sucrose-collect":  # has nothing to do any more, and may not have ended yet
            thread.join()
    gc.collect()
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return {
        "rss": int(status["VmRSS"].split()[0]) * 1024,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
        "python threads": threading.active_count(),
        "mappings": len(open("/proc/self/maps").readlines()),
        "objects": len(gc.get_objects()),
        "files": sum(len(names) for _, _, names in os.walk(folder)),
    }

for step in range(saves // 10):
    save(step)
before = measure()
for step in range(saves // 10, saves):
    save(step)
print(json.dumps([before, measure()]))
"""


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    python = WarmPython("import torch; torch.set_num_threads(1)")
    yield python
    python.close()


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_process_does_not_grow_with_its_saves(tmp_path: Path, python: WarmPython, engine: str) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SUCROSE_ENGINE": engine}
    done = python.run(PROGRAM, [str(tmp_path), str(SAVES)], environment, timeout_s=300)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    for what in ("descriptors", "threads", "python threads", "files"):
        assert after[what] <= before[what], what
    assert after["mappings"] <= before["mappings"] + 20
    assert after["objects"] <= before["objects"] + 500
    assert after["rss"] <= before["rss"] + 16 * MIB


@pytest.mark.skipif(not AVAILABLE, reason=f"{LIBRARY} is built by `make native-tests`")
def test_pinned_memory_and_what_belongs_to_devices_do_not_grow_with_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeCuda()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: SimpleNamespace(cuda_stream=0))
    engine = make_engine(Options(engine="native", cuda_driver=str(LIBRARY)))
    put_to_use(engine, monkeypatch)
    state = {"state": StateDict(tensor=fake.tensor(torch.ones(300_000)), small=fake.tensor(torch.ones(7)))}

    def save_often(count: int) -> dict[str, int]:
        for _ in range(count):
            Snapshot.take(tmp_path / "s", state, overwrite=True, durable=False)
            Snapshot.async_take(tmp_path / "s", state, overwrite=True, durable=False).wait()
        stats = fake.stats()
        kept = ("registrations", "registered_nbytes", "streams", "events", "modules", "contexts_retained")
        return {what: getattr(stats, what) for what in kept}

    before = save_often(20)
    after = save_often(100)
    assert after == before
    fake.assert_used_rightly()

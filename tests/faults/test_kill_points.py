"""SIGKILL before calls that change something: what is found then is the old state or the new one, whole.

The programs save with everything there is, some of them at their very end. Each is run again and again, and
killed before a later call at a site each time, until it survives. Of renames and exchanges none is left out.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from scenario_checkpoints import names_in
from warm_python import WarmPython

import sucrose
from sucrose import Catalog, Retention, Snapshot, StateDict
from sucrose.scenarios.checkpoints import CheckpointFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUPPORT = Path(__file__).parents[1] / "support"
PRELOAD = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
import torch, scenario_checkpoints, sucrose.catalog, sucrose.scenarios.checkpoints, sucrose.testing
import sucrose.state.group, sucrose.state.local
"""
BEGIN = """
import sys, torch
folder, value, site, nth = sys.argv[1], float(sys.argv[2]), sys.argv[3], int(sys.argv[4])
import sucrose
from sucrose import Catalog, Retention, Snapshot, StateDict
from sucrose.testing import kill
tensor = torch.full((300_000,), value)
app_state = {"state": StateDict(tensor=tensor, object=(value, "é"))}
def begin():
    global killing
    if nth:
        killing = kill(site, nth=nth)
        killing.__enter__()  # until the process is over
"""
STRIDES = {"rename": 1, "exchange": 1, "fsync": 2, "unlink": 2, "rmdir": 2, "mkdir": 2}
STRIDES |= {"open": 9, "close": 9, "pwrite": 4, "ftruncate": 2, "fallocate": 1}
"""Sites of calls that change something, and how many of them lie between one kill and the next."""


def value_in_snapshot(folder: Path) -> float:
    assert Snapshot(folder / "s").verify()
    found = StateDict(tensor=torch.zeros(300_000), object=None)
    Snapshot(folder / "s").restore({"state": found})
    value = float(found["tensor"][0])
    assert found["tensor"].eq(value).all()
    assert found["object"] == (value, "é")
    return value


def value_in_file(folder: Path) -> float:
    found = sucrose.load(folder / "s.pt")
    assert found.eq(float(found[0])).all()
    return float(found[0])


def value_in_catalog(folder: Path) -> float:
    found = StateDict(tensor=torch.zeros(300_000), object=None)
    newest = Catalog(folder / "catalog").restore_latest({"state": found})
    assert newest is not None
    value = float(found["tensor"][0])
    assert (newest.step, found["object"]) == (int(value), (value, "é"))
    assert Catalog(folder / "catalog").quarantined() == []
    return value


def value_in_checkpoint(folder: Path) -> float:
    loaded = CheckpointFolder(names_in(folder), Retention()).read()
    assert loaded is not None
    assert loaded.contents["model"]["weight"].eq(loaded.contents["value"]).all()
    assert not (folder / "quarantine").exists()
    return float(loaded.contents["value"])


STATES = """
import os
os.environ["LATTICE_CHECKPOINT_CONFIG"] = f"root={folder}/states,keep_last=1"
from sucrose.state.group import StateManagerGroup
group = StateManagerGroup()
group.register("tensor")
found = group.get("tensor")
if value < 0:
    print(float(found[0]), bool(found.eq(found[0]).all()), flush=True)
    os._exit(0)
group.update("tensor", tensor)
begin()
"""


def value_in_states(folder: Path, python: WarmPython) -> float:
    done = python.run(BEGIN + STATES, [str(folder), "-1", "open", "0"], environment(folder))
    value, is_whole = done.stdout.split()
    assert is_whole == "True"
    return float(value)


PROGRAMS: dict[str, tuple[str, Callable[[Path], float] | None]] = {
    "take": ('begin(); Snapshot.take(folder + "/s", app_state, overwrite=True)', value_in_snapshot),
    "async_take, committed at the end": (
        'begin(); Snapshot.async_take(folder + "/s", app_state, overwrite=True)',
        value_in_snapshot,
    ),
    "save": ('begin(); sucrose.save(tensor, folder + "/s.pt")', value_in_file),
    "Catalog.save, retention and collection": (
        'begin(); Catalog(folder + "/catalog", keep_last=1).save(int(value), app_state)',
        value_in_catalog,
    ),
    "scenario's checkpoint and retention": (
        """
from scenario_checkpoints import contents_of, names_in, record_of
from sucrose.scenarios.checkpoints import CheckpointFolder
from pathlib import Path
checkpoints = CheckpointFolder(names_in(Path(folder)), Retention(keep_last=1))
begin()
checkpoints.write(contents_of(value, 300_000), record_of(int(value)))
""",
        value_in_checkpoint,
    ),
    "state managers at the end": (STATES, None),
}


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    python = WarmPython(PRELOAD)
    yield python
    python.close()


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(folder), "SUCROSE_ENGINE": "native", "SUCROSE_WORKERS": "1"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_killed_before_a_call_the_old_state_or_the_new_one_is_there(
    tmp_path: Path, python: WarmPython, name: str
) -> None:
    program, value_of = PROGRAMS[name]

    def run(value: float, site: str, nth: int) -> int:
        done = python.run(BEGIN + program, [str(tmp_path), str(value), site, str(nth)], environment(tmp_path))
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode

    def found() -> float:
        return value_in_states(tmp_path, python) if value_of is None else value_of(tmp_path)

    assert run(1.0, "open", 0) == 0
    old, value = 1.0, 1.0
    kills, seen = 0, set()
    sites = STRIDES if value_of is not None else {"rename": 1, "fsync": 3, "unlink": 3}  # a look takes a program, too
    for site, stride in sites.items():
        nth, status = 1 - stride, -signal.SIGKILL
        while status != 0:
            nth, value = nth + stride, value + 1
            status = run(value, site, nth)
            now = found()
            assert now in (old, value), f"before call {nth} at {site}"
            seen.add(now == value)
            assert status != 0 or now == value
            kills += status != 0
            old = now
    assert kills >= 5
    assert seen == {True, False}

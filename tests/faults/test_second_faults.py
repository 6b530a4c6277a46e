"""One fault after another: in the recovery from the first, in its collection, in the save that follows a failed one."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from warm_python import WarmPython

import sucrose
from sucrose import Catalog, Snapshot, StateDict
from sucrose.errors import CorruptionError, NotDurableError

faults = pytest.importorskip("sucrose.testing", reason="the native core is not built", exc_type=ImportError)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGES = ["open", "pwrite", "fsync", "close", "rename", "exchange", "mkdir", "unlink", "rmdir"]
STRIDES = {"rename": 1, "mkdir": 1, "unlink": 6, "rmdir": 3, "open": 20, "fsync": 2}
NUMEL = 30_000


def state(value: float) -> dict[str, Any]:
    return {"state": StateDict(tensor=torch.full((NUMEL,), value), object=(value, "é"))}


def value_of(found: dict[str, Any]) -> float:
    value = float(found["state"]["tensor"][0])
    assert found["state"]["tensor"].eq(value).all()
    assert found["state"]["object"] == (value, "é")
    return value


def restored(catalog: Catalog) -> float:
    found = state(0.0)
    newest = catalog.restore_latest(found)
    assert newest is not None
    assert newest.step == int(value_of(found))
    return value_of(found)


@pytest.fixture
def python() -> Iterator[WarmPython]:
    python = WarmPython("import torch, sucrose.catalog, sucrose.testing")
    yield python
    python.close()


@pytest.fixture
def wreck(tmp_path: Path) -> Path:
    """A catalog of which the newest generation is damaged, a writer has died, and a collection was killed."""
    root = tmp_path / "wreck"
    catalog = Catalog(root)
    for step in (1, 2, 3):
        newest = catalog.save(step, state(float(step)))
    catalog.collect()  # what the saves have begun is over, and takes nothing of what follows
    with open(f"{newest.path}/data/0_0.safetensors", "r+b") as file:
        file.seek(5000)
        file.write(b"damage")
    oldest = Path(catalog.generations()[0].path)
    shutil.copytree(oldest, root / f".{oldest.name}.tmp-{'0' * 32}")
    shutil.copytree(oldest, root / ".trash" / "step_0-00000000")
    (root / ".trash" / "step_0-00000000" / ".snapshot_metadata").unlink()
    return root


RECOVERY = """
import sys, torch
from sucrose import Catalog, StateDict
from sucrose.testing import kill
root, site, nth = sys.argv[1], sys.argv[2], int(sys.argv[3])
catalog = Catalog(root, keep_last=1)
with kill(site, nth=nth):
    found = StateDict(tensor=torch.zeros(30_000), object=None)
    assert catalog.restore_latest({"state": found}).step == 2
    catalog.collect()
"""


def test_killed_anywhere_in_a_recovery_the_next_one_comes_to_the_same(
    tmp_path: Path, wreck: Path, python: WarmPython
) -> None:
    kills = 0
    for site, stride in STRIDES.items():
        nth, status = 1 - stride, -signal.SIGKILL
        while status != 0:
            nth += stride
            root = tmp_path / f"{site}-{nth}"
            shutil.copytree(wreck, root)
            done = python.run(RECOVERY, [str(root), site, str(nth)], {**os.environ, "HOME": str(tmp_path)})
            status = done.returncode
            assert status in (0, -signal.SIGKILL), done.stderr
            kills += status != 0
            catalog = Catalog(root, keep_last=1)
            assert restored(catalog) == 2.0, f"before call {nth} at {site}"
            catalog.collect()
            assert catalog.steps() == [2]
            assert [broken.name.partition("-")[0] for broken in catalog.quarantined()] == ["step_3"]
            assert {name for name in os.listdir(root) if name.startswith(".step")} == set()
            shutil.rmtree(root)
    assert kills >= 5


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS], ids=["EIO", "ENOSPC", "EROFS"])
def test_a_collection_and_a_quarantine_that_fail_do_not_keep_a_restore_from_the_generation_before(
    wreck: Path, code: int
) -> None:
    for sites in (["rename"], ["mkdir"], ["rename", "mkdir", "unlink", "rmdir"]):
        with ExitStack() as stack:
            for site in sites:
                stack.enter_context(faults.inject(site, errno=code, forever=True))
            assert restored(Catalog(wreck)) == 2.0
    catalog = Catalog(wreck, keep_last=1)
    assert restored(catalog) == 2.0
    catalog.collect()
    assert catalog.steps() == [2]


def test_reads_that_fail_in_one_generation_after_another_lead_to_the_last_that_can_be_read(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    for step in (1, 2, 3):
        catalog.save(step, state(float(step)))
    with faults.count_calls() as calls:
        restored(catalog)
    for nth in range(1, calls["pread"] + 1):
        with faults.inject("pread", nth=nth, errno=errno.EIO, times=2):
            try:
                found = restored(catalog)
            except (OSError, CorruptionError):
                found = 0.0
        assert found in (0.0, 1.0, 2.0, 3.0)
        for broken in catalog.quarantined():  # a disk that could not read them was no reason to lose them
            os.rename(broken.path, tmp_path / broken.name)
            (tmp_path / broken.name / ".reason").unlink()
        assert restored(catalog) == 3.0


def take(folder: Path, value: float) -> None:
    Snapshot.take(folder / "s", state(value), overwrite=True)


def async_take(folder: Path, value: float) -> None:
    Snapshot.async_take(folder / "s", state(value), overwrite=True).wait()


def save(folder: Path, value: float) -> None:
    sucrose.save(torch.full((NUMEL,), value), folder / "s.pt")


def in_snapshot(folder: Path) -> float:
    assert Snapshot(folder / "s").verify()
    found = state(0.0)
    Snapshot(folder / "s").restore(found)
    return value_of(found)


def in_file(folder: Path) -> float:
    return float(sucrose.load(folder / "s.pt").mean())


WAYS: dict[str, tuple[Callable[[Path, float], None], Callable[[Path], float]]] = {
    "take": (take, in_snapshot),
    "async_take": (async_take, in_snapshot),
    "save": (save, in_file),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_second_fault_in_the_save_after_a_failed_one_loses_nothing(
    each_engine: str, tmp_path: Path, way: str
) -> None:
    put, get = WAYS[way]
    put(tmp_path, 1.0)
    with faults.count_calls() as calls:
        put(tmp_path, 1.0)
    value, failures = 1.0, 0
    for site in CHANGES:
        for nth in range(1, calls[site] + 1, 1 + calls[site] // 4):
            first = ("pwrite", "fsync")[nth % 2]
            with pytest.raises(OSError, match="Input/output error"), faults.inject(first, errno=errno.EIO):
                put(tmp_path, -1.0)
            try:
                with faults.inject(site, nth=nth, errno=errno.EIO):
                    put(tmp_path, value + 1)
            except NotDurableError:
                value += 1  # it is in its place, and so says the error
                failures += 1
            except OSError:
                failures += 1
            else:
                value += 1
            assert get(tmp_path) == value, f"after {first}, call {nth} at {site}"
    put(tmp_path, 1000.0)
    assert get(tmp_path) == 1000.0
    assert failures > 5

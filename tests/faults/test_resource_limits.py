"""Limits of the process: file sizes, descriptors, locked memory; and what is written to a device that is full."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from warm_python import WarmPython

import sucrose
from sucrose import Catalog, Snapshot, StateDict
from sucrose.catalog.background import COLLECTOR
from sucrose.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def state(value: float, numel: int = 1000) -> dict[str, Any]:
    return {"state": StateDict(tensor=torch.full((numel,), value), object=(value, "x" * 1000))}


def value_at(path: Path) -> float:
    assert Snapshot(path).verify()
    return float(Snapshot(path).read_object("0/state/tensor")[0])


@contextmanager
def limit(kind: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@pytest.fixture(scope="module")
def python() -> Iterator[WarmPython]:
    python = WarmPython("import torch, sucrose.catalog")
    yield python
    python.close()


def environment(folder: Path, engine: str) -> dict[str, str]:
    return {**os.environ, "HOME": str(folder), "SUCROSE_ENGINE": engine}


def open_descriptors() -> set[str]:
    return {name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


@pytest.mark.parametrize("nbytes", [0, 1, 2000, 4096, 9000])
def test_a_limit_of_file_sizes_is_an_error_that_changes_nothing(each_engine: str, tmp_path: Path, nbytes: int) -> None:
    Snapshot.take(tmp_path / "s", state(1.0))
    sucrose.save(1.0, tmp_path / "f.pt")
    for numel in (3000, 3_000_000):
        with limit(resource.RLIMIT_FSIZE, nbytes):
            with pytest.raises(StorageError) as caught:
                Snapshot.take(tmp_path / "s", state(2.0, numel), overwrite=True)
            assert caught.value.errno == errno.EFBIG
            with pytest.raises(StorageError) as caught:
                Snapshot.async_take(tmp_path / "s", state(2.0, numel), overwrite=True).wait()
            assert caught.value.errno == errno.EFBIG
            with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
                sucrose.save(torch.ones(numel), tmp_path / "f.pt")
        assert sorted(os.listdir(tmp_path)) == ["f.pt", "s"]
    assert value_at(tmp_path / "s") == 1.0
    assert torch.load(tmp_path / "f.pt") == 1.0
    Snapshot.take(tmp_path / "s", state(2.0), overwrite=True)
    assert value_at(tmp_path / "s") == 2.0


SIGXFSZ = """
import resource, signal, sys, torch
from sucrose import Snapshot, StateDict
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores, and programs that embed it may not
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
Snapshot.take(sys.argv[1], {"state": StateDict(tensor=torch.ones(20_000))}, overwrite=True)
"""


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_a_program_that_sigxfsz_ends_leaves_the_old_snapshot(tmp_path: Path, python: WarmPython, engine: str) -> None:
    Snapshot.take(tmp_path / "s", state(1.0))
    done = python.run(SIGXFSZ, [str(tmp_path / "s")], environment(tmp_path, engine))
    # Threads of the engine take no signals, so that the error may come before the end does.
    assert done.returncode == -signal.SIGXFSZ or "File too large" in done.stderr
    assert done.returncode != 0
    assert value_at(tmp_path / "s") == 1.0
    Snapshot.take(tmp_path / "s", state(2.0), overwrite=True)
    assert value_at(tmp_path / "s") == 2.0


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """All others of this process are taken."""
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
            if len(taken) > 1 and resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 4096:
                raise AssertionError("lower the limit first")
    except OSError:
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)


def test_with_any_number_of_descriptors_left_a_save_succeeds_or_changes_nothing(
    each_engine: str, tmp_path: Path
) -> None:
    saves: dict[str, Callable[[float], object]] = {
        "s": lambda value: Snapshot.take(tmp_path / "s", state(value, 5000), overwrite=True),
        "a": lambda value: Snapshot.async_take(tmp_path / "a", state(value), overwrite=True).wait(),
        "f.pt": lambda value: sucrose.save(value, tmp_path / "f.pt"),
        "catalog": lambda value: Catalog(tmp_path / "catalog").save(int(value), state(value)),
    }
    values = dict.fromkeys(saves, 1.0)
    for save in saves.values():
        save(1.0)
    assert COLLECTOR.wait_idle(60)
    before = open_descriptors()
    refused = []
    for left in range(16):
        for name, save in saves.items():
            with limit(resource.RLIMIT_NOFILE, 256), descriptors_left(left):
                try:
                    save(values[name] + 1)
                except OSError as error:
                    refused.append((left, name, error.errno))
                else:
                    values[name] += 1
        found = state(0.0, 1000)
        assert Catalog(tmp_path / "catalog").restore_latest(found) is not None
        assert found["state"]["tensor"][0] == values["catalog"]
        assert value_at(tmp_path / "s") == values["s"]
        assert value_at(tmp_path / "a") == values["a"]
        assert torch.load(tmp_path / "f.pt") == values["f.pt"]
        assert not list(tmp_path.rglob(".*.tmp-*")), f"{left} descriptors left"
    assert {code for *_, code in refused} == {errno.EMFILE}
    assert {name for _, name, _ in refused} == set(saves)
    assert min(values.values()) > 2, "with so many descriptors left all of them succeed"
    assert COLLECTOR.wait_idle(60)
    assert open_descriptors() == before


MEMLOCK = """
import os, resource, sys, torch
import sucrose.snapshot.snapshot, sucrose.engine.native, sucrose.engine.reference, sucrose.snapshot.verify
from sucrose import Snapshot, StateDict
if os.getuid() == 0:  # root may lock as much as it likes
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
from sucrose.engine import get_engine
for value in (1.0, 2.0):
    state = {"state": StateDict(tensor=torch.full((3_000_000,), value))}
    Snapshot.async_take(sys.argv[1], state, overwrite=True).wait()
assert Snapshot(sys.argv[1]).verify()
print(Snapshot(sys.argv[1]).read_object("0/state/tensor").sum().item(), get_engine().stats()["engine"])
"""


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_no_locked_memory_is_needed(tmp_path: Path, python: WarmPython, engine: str) -> None:
    temporary, folder = Path(tempfile.gettempdir()), tmp_path / "open to all"
    folder.mkdir()
    folder.chmod(0o777)
    for parent in (tmp_path, *tmp_path.parents):  # in a process beside others it lies one level deeper
        if parent != temporary and parent.is_relative_to(temporary):
            parent.chmod(parent.stat().st_mode | 0o011)
    done = python.run(MEMLOCK, [str(folder / "s")], environment(folder, engine))
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip("others than its owner may not read Python's modules here")
    assert done.stdout.split() == ["6000000.0", engine], done.stderr


def test_a_device_is_no_file_that_a_save_would_replace() -> None:
    with pytest.raises(StorageError) as caught:
        sucrose.save(torch.ones(3), "/dev/full")
    assert caught.value.errno == errno.EINVAL
    assert Path("/dev/full").is_char_device()


def test_a_command_that_could_not_say_anything_has_not_succeeded(tmp_path: Path) -> None:
    Catalog(tmp_path).save(1, state(1.0))
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sucrose", "ls", str(tmp_path), "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, "HOME": str(tmp_path)},
        )
    assert done.returncode != 0
    assert "No space left on device" in done.stderr

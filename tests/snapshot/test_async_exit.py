"""Every way out of a program that has a save pending. Each test has a process of its own (warm_python.py).

`slowly` makes the commit come long after the program's last line, `never` makes the disk stand still.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from warm_python import WarmPython

from sucrose import Snapshot

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

WARM_PYTHON = WarmPython()

PREAMBLE = """
import atexit, errno, logging, os, signal, sys, threading, time
folder = sys.argv[1]
BEFORE_IMPORT
import torch
from sucrose import Snapshot, StateDict
from sucrose.snapshot.take import StartedTake
from sucrose.storage import StagedDirectory
target = folder + "/s"

def state(value):
    return {"state": StateDict(value=value, tensor=torch.full((300_000,), value))}

def save(value, name="s"):
    return Snapshot.async_take(folder + "/" + name, state(value), overwrite=True)

def slowly():
    commit = StagedDirectory.commit
    def slow(*args, **kwargs):
        time.sleep(0.3)
        commit(*args, **kwargs)
    StagedDirectory.commit = slow

def never():
    StartedTake.wait_written = lambda take, timeout_s: time.sleep(timeout_s)

def full_disk():
    def fail(staged, *args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), staged.root)
    StagedDirectory.commit = fail

def at_the_end(act):
    def watch():
        while threading.main_thread().is_alive():
            time.sleep(0.001)
        act()
    return threading.Thread(target=watch, daemon=True).start()
"""


def run(
    code: str, folder: Path, *, engine: str = "native", before_import: str = "", timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    program = PREAMBLE.replace("BEFORE_IMPORT", before_import) + code
    return WARM_PYTHON.run(program, [str(folder)], {**os.environ, "SUCROSE_ENGINE": engine}, timeout_s=timeout_s)


@pytest.fixture(autouse=True, scope="module")
def python_ends_with_this_file() -> Iterator[None]:
    yield
    WARM_PYTHON.close()


def value_in(folder: Path, name: str = "s") -> float:
    snapshot = Snapshot(folder / name)
    assert snapshot.verify()
    value: float = snapshot.read_object("0/state/value")
    return value


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Ways out that commit


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(
    ("way_out", "status"),
    [
        ("", 0),
        ("raise ValueError('of the program')", 1),
        ("sys.exit(3)", 3),
        ("sys.exit('a message')", 1),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT),
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); signal.raise_signal(signal.SIGTERM)", 143),
    ],
    ids=["end of program", "exception", "sys.exit", "sys.exit with a message", "Ctrl-C", "SIGTERM with a handler"],
)
def test_a_save_that_nobody_awaits_is_committed(tmp_path: Path, engine: str, way_out: str, status: int) -> None:
    done = run(f"slowly(); save(1.0); save(2.0)\n{way_out}", tmp_path, engine=engine)
    assert done.returncode == status, done.stderr
    assert value_in(tmp_path) == 2.0
    assert names_in(tmp_path) == ["s"]
    assert "sucrose:" not in done.stderr


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(
    ("code", "before_import"),
    [
        ("atexit.register(save, 1.0)", ""),
        ("", "atexit.register(lambda: save(1.0))"),
        ("save(0.0); atexit.register(save, 1.0)", ""),
    ],
    ids=["registered after the import", "registered before the import", "with a save pending"],
)
def test_a_save_that_an_atexit_handler_begins_is_committed(
    tmp_path: Path, engine: str, code: str, before_import: str
) -> None:
    done = run(f"slowly(); {code}", tmp_path, engine=engine, before_import=before_import)
    assert (done.returncode, done.stderr) == (0, "")
    assert value_in(tmp_path) == 1.0
    assert names_in(tmp_path) == ["s"]


def test_a_save_of_a_thread_that_outlives_the_main_thread_is_committed(tmp_path: Path) -> None:
    code = """
slowly()
def work():
    while threading.main_thread().is_alive():
        time.sleep(0.001)
    save(1.0)
    save(2.0).wait()
    save(3.0)
threading.Thread(target=work).start()
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert value_in(tmp_path) == 3.0


def test_a_save_is_committed_while_a_daemon_thread_goes_on(tmp_path: Path) -> None:
    code = """
slowly()
def work():
    while True:
        time.sleep(0.001)
threading.Thread(target=work, daemon=True).start()
save(1.0)
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert value_in(tmp_path) == 1.0


# Ways out that do not wait


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(
    ("way_out", "status"),
    [
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os._exit(0)", 0),
        ("os.abort()", -signal.SIGABRT),
    ],
    ids=["SIGTERM", "SIGHUP", "SIGKILL", "os._exit", "abort"],
)
def test_a_sudden_end_leaves_the_old_snapshot_and_a_hidden_temporary(
    tmp_path: Path, engine: str, way_out: str, status: int
) -> None:
    done = run(f"Snapshot.take(target, state(1.0)); never(); save(2.0)\n{way_out}", tmp_path, engine=engine)
    assert done.returncode == status, done.stderr
    assert value_in(tmp_path) == 1.0
    hidden, visible = names_in(tmp_path)
    assert (hidden[:7], visible) == (".s.tmp-", "s")


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(
    ("first", "status"),
    [("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT), ("", 1), ("sys.exit(3)", 3)],
    ids=["twice", "once, while the end waits", "once, while sys.exit waits"],
)
def test_ctrl_c_while_python_waits_at_the_end_cancels_what_is_pending(
    tmp_path: Path, engine: str, first: str, status: int
) -> None:
    code = f"""
Snapshot.take(target, state(1.0))
never()
save(2.0)
save(3.0, "t")
at_the_end(lambda: os.kill(os.getpid(), signal.SIGINT))
{first}
"""
    done = run(code, tmp_path, engine=engine)
    assert done.returncode == status, done.stderr
    assert names_in(tmp_path) == ["s"]
    assert value_in(tmp_path) == 1.0
    assert done.stderr.count("was interrupted at the end of the program") == 2


def test_ctrl_c_while_the_end_cancels_what_is_pending_is_no_success(tmp_path: Path) -> None:
    code = """
def interrupt():
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)
never()
StartedTake.abandon = lambda take: time.sleep(2)
save(2.0)
at_the_end(interrupt)
"""
    assert run(code, tmp_path).returncode == 1
    assert not (tmp_path / "s").exists()


# Failures that nobody was told of


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("save(1.0)", 1),
        ("save(1.0); sys.exit(0)", 1),
        ("save(1.0); sys.exit(3)", 3),
        ("save(1.0); raise ValueError('of the program')", 1),
        ("atexit.register(save, 1.0)", 1),
    ],
    ids=["end of program", "sys.exit(0)", "sys.exit(3)", "exception", "atexit handler"],
)
def test_a_failure_that_nobody_was_told_of_is_reported_and_changes_the_status(
    tmp_path: Path, engine: str, code: str, status: int
) -> None:
    done = run(f"full_disk(); {code}", tmp_path, engine=engine)
    assert done.returncode == status, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("sucrose: ")]
    assert len(lines) == 1
    assert f"'{tmp_path}/s' failed" in lines[0]
    assert "StorageFullError: [Errno 28]" in lines[0]
    assert names_in(tmp_path) == []


def test_a_failure_after_the_report_is_reported_too(tmp_path: Path) -> None:
    done = run("full_disk()", tmp_path, before_import="atexit.register(lambda: save(1.0))")
    assert done.returncode == 1
    assert "StorageFullError" in done.stderr


@pytest.mark.parametrize(
    "told",
    [
        "save(1.0).wait()",
        "handle = save(1.0)\n    while not handle.done(): time.sleep(0.01)\n    Snapshot.take(target, state(2.0))",
    ],
    ids=["by wait", "by the next take"],
)
def test_a_failure_that_the_program_has_dealt_with_is_not_reported_again(tmp_path: Path, told: str) -> None:
    code = f"""
full_disk()
try:
    {told}
except OSError as error:
    print(error.errno)
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{28}\n", "")


def test_a_cancelled_save_is_no_failure_of_the_program(tmp_path: Path) -> None:
    done = run("never(); print(save(1.0).cancel())", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert names_in(tmp_path) == []


def test_the_report_is_in_the_log_of_the_program_as_well(tmp_path: Path) -> None:
    done = run("logging.basicConfig(filename=folder + '/log'); full_disk(); save(1.0)", tmp_path)
    assert done.returncode == 1
    assert "sucrose: saving" in done.stderr
    assert "ERROR:sucrose." in (tmp_path / "log").read_text()


def test_without_stderr_the_status_still_tells(tmp_path: Path) -> None:
    assert run("full_disk(); save(1.0); sys.stderr.close(); sys.stderr = None", tmp_path).returncode == 1


def test_without_the_native_core_the_status_tells_too(tmp_path: Path) -> None:
    without_core = "sys.modules['sucrose._core'] = None"
    done = run("full_disk(); save(1.0); print('printed')", tmp_path, engine="auto", before_import=without_core)
    assert done.returncode == 1
    assert done.stdout == "printed\n"
    assert "StorageFullError" in done.stderr

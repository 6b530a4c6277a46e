"""Every way out of a program with a state: what is saved, how often, and with which status it ends."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from state_program import count_generations, run, saved_step, start

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("way_out", "status"),
    [
        ("", 0),
        ("raise ValueError('of the program')", 1),
        ("sys.exit(0)", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('a message')", 1),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT),
    ],
    ids=["end of program", "exception", "sys.exit(0)", "sys.exit(3)", "sys.exit with a message", "Ctrl-C"],
)
def test_the_state_is_saved_once_and_is_there_again(tmp_path: Path, way_out: str, status: int) -> None:
    for step in (1, 2):
        done = run(f"progress['step'] += 1\n{way_out}", tmp_path)
        assert done.returncode == status, done.stderr
        assert "sucrose:" not in done.stderr
        assert saved_step(tmp_path) == step
        assert count_generations(tmp_path) == step


@pytest.mark.parametrize(
    ("way_out", "status"),
    [
        ("os._exit(0)", 0),
        ("os.kill(os.getpid(), signal.SIGHUP)", -signal.SIGHUP),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
    ids=["os._exit", "SIGHUP", "SIGKILL"],
)
def test_a_sudden_end_leaves_the_older_state(tmp_path: Path, way_out: str, status: int) -> None:
    done = run(f"progress['step'] = 1; group.save(); progress['step'] = 2\n{way_out}", tmp_path)
    assert done.returncode == status, done.stderr
    assert saved_step(tmp_path) == 1


def test_a_save_in_flight_is_finished_and_followed_by_the_last(tmp_path: Path) -> None:
    done = run("slowly(); progress['step'] = 1; group.async_save(); progress['step'] = 2", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert saved_step(tmp_path) == 2
    assert count_generations(tmp_path) == 2


def test_what_later_exit_handlers_of_the_program_change_is_saved(tmp_path: Path) -> None:
    done = run("atexit.register(lambda: progress.update(step=7))", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert saved_step(tmp_path) == 7


def test_nothing_is_saved_at_the_end_where_that_is_disabled(tmp_path: Path) -> None:
    assert run("progress['step'] = 1", tmp_path, settings="atexit_saving=disabled").returncode == 0
    done = run("progress['step'] = 1; term(); time.sleep(60)", tmp_path, settings="atexit_saving=disabled")
    assert done.returncode == -signal.SIGTERM
    assert saved_step(tmp_path) is None


# Failures


@pytest.mark.parametrize(
    ("way_out", "status"),
    [("", 1), ("sys.exit(0)", 1), ("sys.exit(3)", 3), ("term(); time.sleep(60)", 143)],
    ids=["end of program", "sys.exit(0)", "sys.exit(3)", "SIGTERM"],
)
def test_a_last_save_that_fails_is_reported_in_one_line_and_is_no_success(
    tmp_path: Path, way_out: str, status: int
) -> None:
    run("progress['step'] = 1", tmp_path)
    done = run(f"failing(); progress['step'] = 2\n{way_out}", tmp_path)
    assert done.returncode == status
    lines = [line for line in done.stderr.splitlines() if line.startswith("sucrose: ")]
    assert len(lines) == (1 if status != 143 else 2), "after SIGTERM it is tried again at the exit"
    assert all(f"{tmp_path}/states failed" in line for line in lines)
    assert all("StorageFullError: [Errno 28]" in line for line in lines)
    assert saved_step(tmp_path) == 1


def test_without_the_native_core_the_status_tells_too(tmp_path: Path) -> None:
    done = run(
        "failing(); progress['step'] = 1; say('printed')", tmp_path, before="sys.modules['sucrose._core'] = None"
    )
    assert (done.returncode, done.stdout) == (1, "printed\n")
    assert "StorageFullError" in done.stderr


def test_a_last_save_that_fails_once_is_tried_again(tmp_path: Path) -> None:
    done = run("failing(times=1); progress['step'] = 1", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert saved_step(tmp_path) == 1


def test_a_failure_in_the_background_does_not_prevent_the_last_save(tmp_path: Path) -> None:
    done = run("failing(times=1); group.async_save(); progress['step'] = 1", tmp_path)
    assert done.returncode == 0
    assert "saving the states failed: StorageFullError" in done.stderr
    assert saved_step(tmp_path) == 1


# Ctrl-C again


@pytest.mark.parametrize(
    ("first", "status"),
    [("", 1), ("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", -signal.SIGINT)],
    ids=["after the end", "after sys.exit", "twice"],
)
def test_ctrl_c_during_the_last_save_ends_the_program_at_once(tmp_path: Path, first: str, status: int) -> None:
    run("progress['step'] = 1", tmp_path)
    program = start(f"slowly(60); progress['step'] = 2\n{first}", tmp_path)
    program.wait_for("committing")
    program.send(signal.SIGINT)
    done = program.wait()
    assert done.returncode == status
    assert "the last save was interrupted by KeyboardInterrupt" in done.stderr
    assert saved_step(tmp_path) == 1
    assert [path.name for path in (tmp_path / "states").iterdir() if ".tmp-" in path.name] == []


# Forked children


@pytest.mark.parametrize(
    ("way_out", "status"),
    [
        ("sys.exit(5)", 5),
        ("sys.exit(0)", 0),
        ("term(); time.sleep(60)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGUSR1); time.sleep(60)", -signal.SIGUSR1),
        ("os._exit(6)", 6),
    ],
    ids=["sys.exit(5)", "sys.exit(0)", "SIGTERM", "SIGUSR1", "os._exit"],
)
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.PyDLL(None).fork"])
def test_a_forked_child_saves_nothing_and_dies_as_others_do(
    tmp_path: Path, way_out: str, status: int, fork: str
) -> None:
    # With another thread that waits for the interpreter's lock, a child that C code forks hangs inside CPython.
    code = f"""
import ctypes, threading
group.save()
while any(thread.name == "sucrose-collect" for thread in threading.enumerate()):
    time.sleep(0.01)
child = {fork}()
if child == 0:
    progress["step"] = -1
    {way_out}
say("child ended with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
"""
    periodic = "periodic_saving=enabled,periodic_saving_interval=3600"
    done = run(code, tmp_path, settings=periodic, SUCROSE_WARN_SIGNALS="USR1")
    assert (done.returncode, done.stdout) == (0, f"child ended with {status}\n"), done.stderr
    assert saved_step(tmp_path) == 0
    assert count_generations(tmp_path) == 1


def test_a_forked_child_has_the_programs_own_handlers_again(tmp_path: Path) -> None:
    before = "signal.signal(signal.SIGTERM, lambda *_: os._exit(9))"
    done = run("in_child(lambda: term() or time.sleep(60))", tmp_path, before=before)
    assert (done.returncode, done.stdout) == (0, "child ended with 9\n"), done.stderr


def test_workers_of_multiprocessing_and_of_a_data_loader_save_nothing(tmp_path: Path) -> None:
    code = """
import multiprocessing, torch
from torch.utils.data import DataLoader
worker = multiprocessing.get_context("fork").Process(target=progress.clear)
worker.start()
worker.join()
for batch in DataLoader(torch.arange(4), num_workers=2, multiprocessing_context="fork"):
    progress["step"] += int(batch)
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert saved_step(tmp_path) == 6
    assert count_generations(tmp_path) == 1


def test_the_parent_is_saved_as_before_after_a_fork(tmp_path: Path) -> None:
    done = run("in_child(lambda: sys.exit(0)); progress['step'] = 1; term(); time.sleep(60)", tmp_path)
    assert done.returncode == 143, done.stderr
    assert saved_step(tmp_path) == 1

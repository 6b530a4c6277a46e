"""Saves every so many seconds, while the program runs."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from state_program import run, saved_step

if TYPE_CHECKING:
    from pathlib import Path

PERIODIC = "periodic_saving=enabled,periodic_saving_interval=0.02,atexit_saving=disabled"

UNTIL = """
def until_saves(number):
    while group._saver.saves < number:
        time.sleep(0.005)
"""


def test_the_state_is_saved_again_and_again_and_the_last_one_survives_sigkill(tmp_path: Path) -> None:
    code = UNTIL + "for step in range(1, 6): progress['step'] = step; until_saves(group._saver.saves + 2)\n"
    done = run(code + "os.kill(os.getpid(), signal.SIGKILL)", tmp_path, settings=PERIODIC)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    assert saved_step(tmp_path) == 5


def test_nothing_is_saved_while_a_state_has_no_value(tmp_path: Path) -> None:
    done = run("group.register('unset'); time.sleep(0.3)", tmp_path, settings=PERIODIC)
    assert done.returncode == 0
    assert done.stderr.count("unset") == 1, "told once, not each time"


@pytest.mark.parametrize("broken", ["LocalCheckpoints.begin_save", "StagedDirectory.commit"])
def test_an_error_in_one_round_is_logged_and_the_next_one_goes_on(tmp_path: Path, broken: str) -> None:
    owner, name = broken.split(".")
    code = (
        UNTIL
        + f"""
logging.basicConfig(filename=folder + "/log")
work, calls = {broken}, []
def fail_twice(*args, **kwargs):
    calls.append(args)
    if len(calls) <= 2:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return work(*args, **kwargs)
{owner}.{name} = fail_twice
until_saves(2)
progress["step"] = 1
group.save()
"""
    )
    done = run(code, tmp_path, settings=PERIODIC)
    assert (done.returncode, done.stderr) == (0, "")
    errors = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("ERROR:sucrose.")]
    assert len(errors) == 2
    assert all("No space left on device" in line for line in errors)
    assert saved_step(tmp_path) == 1


def test_an_error_that_nobody_logged_yet_is_not_raised_by_the_programs_own_saves(tmp_path: Path) -> None:
    code = """
import torch
from sucrose import Snapshot, StateDict
failing(times=1)
commit = StagedDirectory.commit
def release(*args, **kwargs):
    time.sleep(0.1)
    commit(*args, **kwargs)
StagedDirectory.commit = release
while group._saver._pending is None: time.sleep(0.001)
Snapshot.take(folder + "/own", {"own": StateDict(x=1)})
"""
    done = run(code, tmp_path, settings=PERIODIC)
    assert done.returncode == 0, done.stderr
    assert "saving the states failed: StorageFullError" in done.stderr


def test_never_two_at_once(tmp_path: Path) -> None:
    code = (
        UNTIL
        + """
begin_save, flights = LocalCheckpoints.begin_save, []
def watched(*args):
    assert not any(not flight.done() for flight in flights)
    flights.append(begin_save(*args))
    return flights[-1]
LocalCheckpoints.begin_save = watched
slowly(0.1)
until_saves(5)
"""
    )
    done = run(code, tmp_path, settings=PERIODIC)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pause_holds_saves_up_until_the_last_resume(tmp_path: Path) -> None:
    code = (
        UNTIL
        + """
until_saves(1)
group.pause_periodic_saving()
group.pause_periodic_saving()
group._saver.finish()
time.sleep(0.1)
before = group._saver.saves
progress["step"] = 1  # half of a change
time.sleep(0.2)
group.resume_periodic_saving()
time.sleep(0.2)
say(group._saver.saves - before)
progress["step"] = 2
group.resume_periodic_saving()
until_saves(before + 1)
"""
    )
    done = run(code, tmp_path, settings=PERIODIC)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
    assert saved_step(tmp_path) == 2


def test_a_forked_child_has_no_periodic_saves(tmp_path: Path) -> None:
    code = (
        UNTIL
        + """
until_saves(1)
group.pause_periodic_saving()
group._saver.finish()
def child():
    progress["step"] = -1
    group.resume_periodic_saving()
    time.sleep(0.3)
    os._exit([thread.name for thread in threading.enumerate()].count("sucrose-periodic"))
in_child(child)
"""
    )
    done = run(code, tmp_path, settings=PERIODIC)
    assert (done.returncode, done.stdout, done.stderr) == (0, "child ended with 0\n", "")
    assert saved_step(tmp_path) == 0


def test_sigterm_while_the_thread_is_at_work_saves_once_more(tmp_path: Path) -> None:
    settings = PERIODIC.replace("disabled", "enabled")
    for step in (1, 2, 3):
        code = UNTIL + f"until_saves({step}); progress['step'] = {step}; term(); time.sleep(60)"
        done = run(code, tmp_path, settings=settings)
        assert (done.returncode, done.stderr) == (143, "")
        assert saved_step(tmp_path) == step

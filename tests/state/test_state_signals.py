"""SIGTERM and warnings at any time: the state is saved, and the program ends or goes on as it should."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from state_program import count_generations, go_on, run, saved_step, saved_steps, start

if TYPE_CHECKING:
    from pathlib import Path

# SIGTERM


@pytest.mark.parametrize("wait", ["time.sleep(60)", "while True: pass", "threading.Event().wait()"])
def test_sigterm_saves_once_and_ends_the_program_with_143(tmp_path: Path, wait: str) -> None:
    program = start(f"progress['step'] = 1; say('ready')\n{wait}", tmp_path)
    program.wait_for("ready")
    if wait != "while True: pass":
        program.wait_until_asleep()
    program.send(signal.SIGTERM)
    done = program.wait(60)
    assert (done.returncode, done.stderr) == (143, "")
    assert saved_step(tmp_path) == 1
    assert count_generations(tmp_path) == 1


@pytest.mark.parametrize("save", ["group.async_save().wait()", "group.save()"])
def test_sigterm_in_the_middle_of_a_save_saves_what_is_newer(tmp_path: Path, save: str) -> None:
    program = start(f"slowly(); progress['step'] = 1\nwhile True: progress['step'] += 1; {save}", tmp_path)
    program.wait_for("committing")
    program.send(signal.SIGTERM)
    done = program.wait(60)
    assert (done.returncode, done.stderr) == (143, "")
    assert (saved_step(tmp_path) or 0) >= 2
    assert [path.name for path in (tmp_path / "states").iterdir() if ".tmp-" in path.name] == []


def test_a_second_sigterm_during_the_last_save_changes_nothing(tmp_path: Path) -> None:
    program = start("held(); progress['step'] = 1; term(); time.sleep(60)", tmp_path)
    program.wait_for("committing")
    program.send(signal.SIGTERM)
    go_on(tmp_path)
    done = program.wait(60)
    assert (done.returncode, done.stderr) == (143, "")
    assert (saved_step(tmp_path), count_generations(tmp_path)) == (1, 1)


def test_sigterm_during_the_save_at_exit_makes_it_143(tmp_path: Path) -> None:
    program = start("held(); progress['step'] = 1", tmp_path)
    program.wait_for("committing")
    program.send(signal.SIGTERM)
    go_on(tmp_path)
    done = program.wait(60)
    assert (done.returncode, done.stderr) == (143, "")
    assert (saved_step(tmp_path), count_generations(tmp_path)) == (1, 1)


def test_sigterm_ends_a_program_that_waits_for_its_threads(tmp_path: Path) -> None:
    code = """
threading.Thread(target=time.sleep, args=(3600,)).start()
progress['step'] = 1
def when_main_has_ended():
    while threading.main_thread().is_alive(): time.sleep(0.01)
    say('waits')
threading.Thread(target=when_main_has_ended, daemon=True).start()
"""
    program = start(code, tmp_path)
    program.wait_for("waits")
    program.wait_until_asleep()
    program.send(signal.SIGTERM)
    assert program.wait(60).returncode == 143
    assert saved_step(tmp_path) == 1


@pytest.mark.parametrize(
    ("act", "is_told"),
    [
        ("say('the handler of the program')", False),
        ("say('the handler of the program'); sys.exit(5)", False),
        ("say('the handler of the program'); raise ValueError('of the handler')", True),
        ("say('the handler of the program'); raise KeyboardInterrupt", True),
    ],
    ids=["returns", "sys.exit", "exception", "KeyboardInterrupt"],
)
def test_the_handler_that_was_there_before_is_called_and_prevents_nothing(
    tmp_path: Path, act: str, is_told: bool
) -> None:
    before = f"def handler(number, frame):\n    {act}\nsignal.signal(signal.SIGTERM, handler)"
    done = run("progress['step'] = 1; term(); time.sleep(60)", tmp_path, before=before)
    assert (done.returncode, done.stdout) == (143, "the handler of the program\n"), done.stderr
    assert ("the program's handler of SIGTERM has raised" in done.stderr) is is_told
    assert (saved_step(tmp_path), count_generations(tmp_path)) == (1, 1)


def test_a_handler_that_the_program_installs_later_takes_the_place_of_ours(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9)); progress['step'] = 1; term(); time.sleep(60)"
    assert run(code, tmp_path).returncode == 9
    assert saved_step(tmp_path) == 1


def test_sigterm_remains_ignored_where_it_was(tmp_path: Path) -> None:
    before = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    done = run("term(); progress['step'] = 1; say('alive')", tmp_path, before=before)
    assert (done.returncode, done.stdout, done.stderr) == (0, "alive\n", "")
    assert saved_step(tmp_path) == 1


def test_a_program_that_catches_the_exit_goes_on_and_is_saved_again(tmp_path: Path) -> None:
    code = """
for step in (1, 2):
    try:
        progress['step'] = step
        term()
        time.sleep(60)
    except SystemExit as caught:
        say(caught.code)
progress['step'] = 3  # behind the group's back
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "143\n143\n", "")
    assert (saved_step(tmp_path), count_generations(tmp_path)) == (3, 3)


def test_what_the_program_updates_on_its_way_out_is_saved_too(tmp_path: Path) -> None:
    code = "try: term(); time.sleep(60)\nfinally: group.update('progress', {'step': 8})"
    assert run(code, tmp_path).returncode == 143
    assert saved_step(tmp_path) == 8


def test_a_group_made_in_another_thread_works_without_signals_and_says_so(tmp_path: Path) -> None:
    before = """
import sucrose.state.group as groups
maker = threading.Thread(target=groups.StateManagerGroup)
maker.start()
maker.join()
"""
    done = run("progress['step'] = 1", tmp_path, before=before)
    assert done.returncode == 0
    assert done.stderr.count("main thread only") == 1
    done = run("progress['step'] = 2; term(); time.sleep(60)", tmp_path, before=before)
    assert done.returncode == -signal.SIGTERM
    assert saved_step(tmp_path) == 1


def test_workers_that_die_of_the_same_sigterm_do_not_prevent_the_save(tmp_path: Path) -> None:
    code = """
import torch
from torch.utils.data import DataLoader
os.setsid()
slowly()
# Kept until the end: an iterator that goes earlier waits for locks which dead workers may have held.
batches = iter(DataLoader(torch.arange(1000), num_workers=2, multiprocessing_context="fork"))
for batch in batches:
    progress["step"] += 1
    if progress["step"] == 3:
        os.killpg(os.getpid(), signal.SIGTERM)
        while True:  # as the workers die, another thread may get the signal, which ends no sleep of this one then
            time.sleep(0.01)
"""
    done = run(code, tmp_path)
    assert done.returncode == 143, done.stderr
    assert "sucrose:" not in done.stderr
    assert saved_step(tmp_path) == 3


def test_sigterm_anywhere_in_calls_of_the_group_saves_and_blocks_nothing(tmp_path: Path) -> None:
    code = """
from sucrose.state.triggers.last_save import Terminated
handler = signal.getsignal(signal.SIGTERM)
left = 0

def count(frame, event, argument):
    global left
    if event in ("call", "c_return") and left > 0:
        left -= 1
        if left == 0:
            handler(signal.SIGTERM, None)

def work(step):
    group.update("progress", {"step": step, "twice": 2 * step})
    group.save()
    group.pause_periodic_saving()
    group.resume_periodic_saving()
    group.async_save().wait()
    group.get("progress")

step, moment, stopped = 0, 0, True
while stopped:
    step += 1
    moment += 53
    left = moment
    sys.setprofile(count)
    try:
        work(step)
        stopped = left == 0
    except Terminated:
        stopped = True
    finally:
        sys.setprofile(None)
        group._saver.finish(30)
    group.load()
    found = group.get("progress")
    assert found["step"] in (step - 1, step) and found.get("twice", 0) == 2 * found["step"], (moment, found)
say("moments:", step > 20)
"""
    done = run(code, tmp_path, settings="keep_last=2", timeout_s=120)
    assert (done.returncode, done.stdout) == (0, "moments: True\n"), done.stderr


def test_a_lock_that_the_program_and_a_state_share_delays_the_save_to_the_exit(tmp_path: Path) -> None:
    code = """
from sucrose.state.managers import StateClosureManager
lock, is_waiting = threading.Lock(), threading.Event()
def locked():
    is_waiting.set()
    with lock:
        return progress["step"]
group.register("locked", StateClosureManager)
with lock:
    group.update("locked", locked)
    is_waiting.wait()  # the periodic save has come to the lock
    progress["step"] = 1
    term()
    time.sleep(60)
"""
    settings = "periodic_saving=enabled,periodic_saving_interval=0.02"
    done = run(code, tmp_path, settings=settings, SUCROSE_GRACE_S="6")
    assert done.returncode == 143
    assert "they are saved at the exit" in done.stderr
    assert saved_step(tmp_path) == 1


# The grace


@pytest.mark.parametrize(
    ("expected_s", "step"), [(100.0, 1), (0.0, 2)], ids=["no time for another", "time for another"]
)
def test_a_save_in_flight_is_the_last_one_where_time_is_short(tmp_path: Path, expected_s: float, step: int) -> None:
    code = f"""
held()
progress["step"] = 1
group.async_save()
progress["step"] = 2
group._saver.expected_s = lambda: {expected_s}
finish = group._saver.finish_before_end
group._saver.finish_before_end = lambda left_s: go_on() or finish(left_s)
term()
time.sleep(60)
"""
    done = run(code, tmp_path)
    assert done.returncode == 143
    assert ("there is no time for another" in done.stderr) is (step == 1)
    assert (saved_step(tmp_path), count_generations(tmp_path)) == (step, step)


def test_a_save_in_flight_that_fails_is_not_the_last_one(tmp_path: Path) -> None:
    code = """
slowly()
failing(times=1)
progress["step"] = 1
group.async_save()
group._saver.expected_s = lambda: 100.0
term()
time.sleep(60)
"""
    assert run(code, tmp_path).returncode == 143
    assert saved_step(tmp_path) == 1


# Programs that stop by themselves


@pytest.mark.parametrize(("way_out", "status"), [("", 143), ("sys.exit(0)", 143), ("sys.exit(3)", 3)])
def test_a_program_that_asks_ends_at_a_step_and_not_with_success(tmp_path: Path, way_out: str, status: int) -> None:
    code = f"""
import sucrose
while not sucrose.should_stop():
    say("step")
    time.sleep(0.2)  # SIGTERM comes here
    progress["step"] += 1
    say("whole")
{way_out}
"""
    program = start(code, tmp_path)
    program.wait_for("step")
    program.send(signal.SIGTERM)
    done = program.wait(60)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.count("step") == done.stdout.count("whole") == saved_step(tmp_path)
    assert count_generations(tmp_path) == 1


def test_a_program_that_asks_and_does_not_stop_is_ended_before_the_grace_is_over(tmp_path: Path) -> None:
    code = """
import sucrose
before = time.monotonic()
sucrose.should_stop()
progress["step"] = 1
term()
term()
time.sleep(0.1)
say(sucrose.should_stop())
progress["step"] = 2
time.sleep(60)
"""
    done = run(code, tmp_path, SUCROSE_GRACE_S="5")
    assert (done.returncode, done.stdout, done.stderr) == (143, "True\n", "")
    assert (saved_step(tmp_path), count_generations(tmp_path)) == (2, 1)


def test_the_handler_of_a_program_that_asks_decides_about_its_end(tmp_path: Path) -> None:
    before = "def handler(*_): raise ValueError('the way out')\nsignal.signal(signal.SIGTERM, handler)"
    done = run(
        "import sucrose; sucrose.should_stop(); progress['step'] = 1; term(); time.sleep(60)", tmp_path, before=before
    )
    assert done.returncode == 1
    assert "ValueError: the way out" in done.stderr
    assert saved_step(tmp_path) == 1


@pytest.mark.parametrize("where", ["before the group", "without a group"])
def test_asking_needs_no_group(tmp_path: Path, where: str) -> None:
    ask = "import sucrose\nassert not sucrose.should_stop()\n"
    if where == "before the group":
        done = run("term(); assert sucrose.should_stop(); progress['step'] = 1", tmp_path, before=ask)
        assert saved_step(tmp_path) == 1
    else:
        done = run(
            "", tmp_path, before=f"{ask}os.kill(os.getpid(), signal.SIGTERM)\nprint(sucrose.should_stop())\nsys.exit()"
        )
        assert done.stdout == "True\n"
        assert not (tmp_path / "states").exists()
    assert (done.returncode, done.stderr) == (143, "")


def test_asking_in_another_thread_alone_installs_nothing_and_says_so(tmp_path: Path) -> None:
    before = """
import sucrose
asker = threading.Thread(target=lambda: print([sucrose.should_stop() for _ in range(2)]))
asker.start()
asker.join()
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
sys.exit()
"""
    done = run("", tmp_path, before=before)
    assert (done.returncode, done.stdout) == (0, "[False, False]\nTrue\n")
    assert done.stderr.count("main thread only") == 1


def test_saves_and_sigterm_wait_for_a_boundary(tmp_path: Path) -> None:
    code = """
from sucrose.state.stopping import at_boundary, save_only_at_boundaries
save_only_at_boundaries()
while True:
    progress["step"] += 1
    time.sleep(0.03)
    progress["step"] += 1
    at_boundary()
    if progress["step"] == 20:
        group._saver.finish()
        term()
        progress["step"] += 1
        time.sleep(0.1)
        progress["step"] += 1
"""
    done = run(code, tmp_path, settings="periodic_saving=enabled,periodic_saving_interval=0.05")
    assert (done.returncode, done.stderr) == (143, "")
    assert saved_step(tmp_path) == 24
    steps = saved_steps(tmp_path)
    assert len(steps) > 1
    assert all(step % 2 == 0 for step in steps)


# Warnings


@pytest.mark.parametrize("number", ["SIGUSR1", "SIGUSR2"])
def test_a_warning_saves_and_the_program_goes_on(tmp_path: Path, number: str) -> None:
    before = f"signal.signal(signal.{number}, lambda *_: print('the handler of the program', flush=True))"
    code = f"""
import sucrose
progress["step"] = 1
assert not sucrose.should_stop()
os.kill(os.getpid(), signal.{number})
assert sucrose.should_stop()
group._saver.finish()
progress["step"] = 2
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run(code, tmp_path, before=before, SUCROSE_WARN_SIGNALS="usr1, SIGUSR2")
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "the handler of the program\n"), done.stderr
    assert saved_step(tmp_path) == 1


def test_a_program_that_ends_by_itself_after_a_warning_has_succeeded(tmp_path: Path) -> None:
    code = "import sucrose; sucrose.should_stop(); os.kill(os.getpid(), signal.SIGUSR1); progress['step'] = 1"
    done = run(code, tmp_path, SUCROSE_WARN_SIGNALS="SIGUSR1")
    assert (done.returncode, done.stderr) == (0, "")
    assert saved_step(tmp_path) == 1


@pytest.mark.parametrize(
    ("way", "back", "saves"),
    [
        ("held(); group.async_save()", "go_on()", 2),
        ("group.pause_periodic_saving()", "group.resume_periodic_saving()", 1),
    ],
    ids=["a save in flight", "a pause"],
)
def test_a_warning_waits_for_what_is_in_its_way(tmp_path: Path, way: str, back: str, saves: int) -> None:
    code = f"""
progress["step"] = 1
before = group._saver.saves
{way}
progress["step"] = 2
os.kill(os.getpid(), signal.SIGUSR1)
assert group._saver.saves == before
{back}
while group._saver.saves < before + {saves}:
    time.sleep(0.01)
    group._saver.finish()
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = run(code, tmp_path, SUCROSE_WARN_SIGNALS="SIGUSR1")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert saved_step(tmp_path) == 2


@pytest.mark.parametrize(
    ("calls", "status"),
    [("fail_exit(143)", 143), ("fail_exit(143); fail_exit(1)", 1), ("fail_exit(); fail_exit(143)", 1)],
)
def test_a_failure_outweighs_a_signal_in_the_status(tmp_path: Path, calls: str, status: int) -> None:
    done = run("", tmp_path, before=f"from sucrose.engine import fail_exit; {calls}; sys.exit()")
    assert done.returncode == status


def test_a_malformed_option_is_an_error_at_the_start(tmp_path: Path) -> None:
    done = run("", tmp_path, SUCROSE_WARN_SIGNALS="SIGKILL")
    assert done.returncode == 1
    assert "ConfigError: SUCROSE_WARN_SIGNALS='SIGKILL': expected SIGUSR1 or SIGUSR2" in done.stderr

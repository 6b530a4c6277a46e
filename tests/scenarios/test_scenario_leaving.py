"""Whatever ends the program: what saves itself is saved, once, and where boundaries are, at one of them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from leaving_program import go_on, run, saves, start
from state_program import saved_step

if TYPE_CHECKING:
    from pathlib import Path

WAYS_OUT = {
    "end": ("pass", 0),
    "exception": ("raise ValueError('of the program')", 1),
    "sys.exit": ("sys.exit(3)", 3),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    "SIGTERM": ("term()", 143),
}


@pytest.mark.parametrize("has_group", [False, True], ids=["alone", "with a group"])
@pytest.mark.parametrize("is_tracked", [False, True], ids=["plain", "tracked"])
@pytest.mark.parametrize("way", WAYS_OUT)
def test_whatever_ends_the_program_everything_is_saved(
    tmp_path: Path, way: str, is_tracked: bool, has_group: bool
) -> None:
    act, status = WAYS_OUT[way]
    code = f"""
counter, loader = Counter(), loader_of()
{"place = tracked(loader)" if is_tracked else ""}
def act():
    {act}
train(counter, loader, act)
"""
    done = run(code, tmp_path, has_group=has_group)
    assert done.returncode == status, done.stderr
    assert "sucrose:" not in done.stderr
    is_at_boundary = way == "SIGTERM" and is_tracked
    value = 16 if way == "end" else 4 if is_at_boundary else 3
    assert saves(tmp_path) == [f"{value} {'at a boundary' if is_at_boundary else 'at the end'}"]
    assert saved_step(tmp_path) == (value if has_group else None)


@pytest.mark.parametrize("is_tracked", [False, True], ids=["plain", "tracked"])
def test_the_handler_of_the_program_is_called_first(tmp_path: Path, is_tracked: bool) -> None:
    before = "signal.signal(signal.SIGTERM, lambda *_: print('the handler of the program', flush=True))"
    code = f"""
counter, loader = Counter(), loader_of()
{"place = tracked(loader)" if is_tracked else ""}
train(counter, loader, term)
"""
    done = run(code, tmp_path, before=before)
    assert (done.returncode, done.stdout) == (143, "the handler of the program\nsaving\n"), done.stderr


def test_what_has_left_is_not_saved_and_expects_no_boundary(tmp_path: Path) -> None:
    code = """
first, loader = Counter("first"), loader_of()
place = tracked(loader)
train(first, loader)
leaving.has_left(first)
leaving.has_left(first)
second = Counter("second")
second.value = 1
term()
time.sleep(60)
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (143, "")
    assert (saves(tmp_path, "first"), saves(tmp_path, "second")) == ([], ["1 at the end"])


def test_a_program_that_asks_ends_where_it_wants_to(tmp_path: Path) -> None:
    code = """
import sucrose
counter = Counter()
while not sucrose.should_stop():
    counter.value += 1
    term()
    counter.value += 1
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (143, "")
    assert saves(tmp_path) == ["2 at the end"]


def test_a_program_that_goes_on_after_sigterm_is_saved_again(tmp_path: Path) -> None:
    code = """
counter, loader = Counter(), loader_of()
place = tracked(loader)
try:
    train(counter, loader, term)
except SystemExit as caught:
    say(caught.code)
counter.value = 100
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout) == (143, "saving\n143\nsaving\n"), done.stderr
    assert saves(tmp_path) == ["4 at a boundary", "100 at the end"]


# The grace


def test_where_no_boundary_comes_the_program_ends_before_the_grace_is_over(tmp_path: Path) -> None:
    code = """
counter, loader = Counter(), loader_of()
place = tracked(loader)
train(counter, loader, epochs=1)
term()
counter.value += 1
time.sleep(60)  # an evaluation, say
"""
    done = run(code, tmp_path, SUCROSE_GRACE_S="5")
    assert (done.returncode, done.stderr) == (143, "")
    assert saves(tmp_path) == ["9 at the end"]


def test_the_time_that_saves_will_take_is_set_aside(tmp_path: Path) -> None:
    code = """
counter, loader = Counter(), loader_of()
place = tracked(loader)
counter.expected_s = lambda: 3600.0  # longer than the grace: there is nothing to wait for
counter.value = 1
term()
time.sleep(600)
"""
    done = run(code, tmp_path, SUCROSE_GRACE_S="1800")
    assert (done.returncode, done.stderr) == (143, "")
    assert saves(tmp_path) == ["1 at the end"]


@pytest.mark.parametrize("is_tracked", [False, True], ids=["plain", "tracked"])
def test_a_second_sigterm_during_the_save_changes_nothing(tmp_path: Path, is_tracked: bool) -> None:
    code = f"""
Counter.is_held = True
counter, loader = Counter(), loader_of()
{"place = tracked(loader)" if is_tracked else ""}
train(counter, loader, term)
"""
    program = start(code, tmp_path)
    program.wait_for("saving")
    program.send(signal.SIGTERM)
    go_on(tmp_path)
    done = program.wait()
    assert (done.returncode, done.stdout, done.stderr) == (143, "saving\n", "")
    assert saves(tmp_path) == ["4 at a boundary" if is_tracked else "3 at the end"]


def test_sigterm_during_the_save_at_the_exit_makes_it_143(tmp_path: Path) -> None:
    program = start("Counter.is_held = True; counter = Counter(); counter.value = 1", tmp_path)
    program.wait_for("saving")
    program.send(signal.SIGTERM)
    go_on(tmp_path)
    done = program.wait()
    assert (done.returncode, done.stdout, done.stderr) == (143, "saving\n", "")
    assert saves(tmp_path) == ["1 at the end"]


def test_sigterm_in_the_middle_of_the_program_s_own_save_saves_within_it(tmp_path: Path) -> None:
    code = """
Counter.is_held = True
counter = Counter()
counter.value = 1
counter.save_before_end(at_boundary=False)
"""
    program = start(code, tmp_path)
    program.wait_for("saving")
    program.send(signal.SIGTERM)
    go_on(tmp_path)
    done = program.wait()
    assert (done.returncode, done.stderr) == (143, "")
    assert saves(tmp_path) == ["1 at the end"]


# Several


@pytest.mark.parametrize("is_tracked", [False, True], ids=["plain", "tracked"])
@pytest.mark.parametrize(("act", "status"), [("lambda: None", 1), ("term", 143)], ids=["end", "SIGTERM"])
def test_one_that_fails_is_reported_and_does_not_keep_the_others_from_saving(
    tmp_path: Path, act: str, status: int, is_tracked: bool
) -> None:
    code = f"""
first, failing, last, loader = Counter("first"), Failing("failing"), Counter("last"), loader_of()
{"place = tracked(loader)" if is_tracked else ""}
last.value = 7
train(first, loader, {act})
"""
    done = run(code, tmp_path, has_group=True)
    assert done.returncode == status
    assert f"the last save to {tmp_path}/failing failed" in done.stderr
    assert "No space left on device" in done.stderr
    assert (len(saves(tmp_path, "first")), len(saves(tmp_path, "last"))) == (1, 1)
    assert saved_step(tmp_path) == (16 if status == 1 else 4 if is_tracked else 3)


def test_a_group_that_cannot_be_saved_does_not_keep_others_from_saving(tmp_path: Path) -> None:
    code = "counter = Counter(); progress['lock'] = threading.Lock(); train(counter, loader_of())"
    done = run(code, tmp_path, has_group=True)
    assert done.returncode == 1
    assert "saving the states to" in done.stderr
    assert saves(tmp_path) == ["16 at the end"]


def test_two_in_two_threads_are_both_saved_at_their_boundaries(tmp_path: Path) -> None:
    code = """
has_come = threading.Event()
leaving.on_leaving(main := Counter("main"))  # the handler is installed in the main thread

def work():
    counter, loader = Counter("other"), loader_of()
    place = tracked(loader)
    def act():
        has_come.set()
        while threading.main_thread().is_alive() and main.saved is None:
            time.sleep(0.01)
    train(counter, loader, act)

thread = threading.Thread(target=work)
thread.start()
has_come.wait()
loader = loader_of()
place = tracked(loader)
train(main, loader, term)
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (143, "")
    assert (saves(tmp_path, "main"), saves(tmp_path, "other")) == (["4 at a boundary"], ["4 at a boundary"])


def test_a_thread_that_trains_while_the_main_thread_waits_ends_at_its_boundary(tmp_path: Path) -> None:
    code = """
leaving.on_leaving(main := Counter("main"))

def work():
    counter, loader = Counter("other"), loader_of()
    place = tracked(loader)
    train(counter, loader, term, epochs=10**9)

thread = threading.Thread(target=work)
thread.start()
thread.join()
say("joined")
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout.splitlines()[:2], done.stderr) == (143, ["saving", "joined"], "")
    [save] = saves(tmp_path, "other")
    value, where = save.split(maxsplit=1)
    assert (int(value) % 2, where) == (0, "at a boundary")


def test_without_the_main_thread_all_works_but_signals_and_that_is_said_once(tmp_path: Path) -> None:
    code = """
def work(name):
    counter, loader = Counter(name), loader_of()
    place = tracked(loader)
    train(counter, loader)

for name in ("one", "other"):
    thread = threading.Thread(target=work, args=(name,))
    thread.start()
    thread.join()
"""
    done = run(code, tmp_path)
    assert done.returncode == 0
    assert done.stderr.count("main thread only") == 1
    assert (saves(tmp_path, "one"), saves(tmp_path, "other")) == (["16 at the end"], ["16 at the end"])


@pytest.mark.parametrize("way_out", ["sys.exit(5)", "term(); time.sleep(60)"])
def test_a_forked_child_saves_nothing(tmp_path: Path, way_out: str) -> None:
    code = f"""
import multiprocessing
counter, loader = Counter(), loader_of()
place = tracked(loader)
counter.value = 2

def work():
    train(counter, loader, epochs=1)
    {way_out}

child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
say("child ended with", child.exitcode, os.path.exists(counter.where))
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    status = 5 if "exit" in way_out else -signal.SIGTERM
    assert f"child ended with {status} False" in done.stdout
    assert saves(tmp_path) == ["2 at the end"]


def test_workers_that_die_of_the_same_sigterm_do_not_prevent_the_save(tmp_path: Path) -> None:
    code = """
os.setsid()
counter = Counter()
loader = DataLoader(torch.arange(8), num_workers=2, multiprocessing_context="fork")
place = tracked(loader)
train(counter, loader, lambda: os.killpg(os.getpid(), signal.SIGTERM))
"""
    done = run(code, tmp_path)
    assert done.returncode != 0
    # Torch may raise an error in the middle of the batch, because its workers are gone.
    assert saves(tmp_path) in (["4 at a boundary"], ["3 at the end"], ["4 at the end"]), done.stderr
    assert "the last save" not in done.stderr


# Scenarios


SCENARIOS = """
import sucrose
from torch import nn
from torch.utils.data import TensorDataset

def train_scenario(name, kill_at):
    ssc = sucrose.scenario(folder, name)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    data = TensorDataset(torch.randn(12, 3), torch.randn(12, 1))
    loader = ssc.track(loader=DataLoader(data, batch_size=4, shuffle=True))
    ssc.track(model=model, optimizer=optimizer)
    ssc.load_state_dict()
    batches = 0
    for epoch in ssc.epoch_range(until=4):
        for x, y in loader:
            batches += 1
            if batches == kill_at:
                KILL
            optimizer.zero_grad()
            (model(x) - y).square().mean().backward()
            optimizer.step()
            ssc.step()
        ssc.save_state_dict(3)
    say(name, ssc.num_steps, sum(p.double().sum().item() for p in model.parameters()))
    ssc.close()
"""


@pytest.mark.parametrize("has_group", [False, True], ids=["alone", "with a group"])
def test_a_scenario_that_is_ended_again_and_again_learns_the_same(tmp_path: Path, has_group: bool) -> None:
    def run_until(kill_at: int, folder: Path, way: str = "term()") -> tuple[int, str]:
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text("base: {}")
        code = SCENARIOS.replace("KILL", way) + f"train_scenario('base', {kill_at})"
        done = run(code, folder, has_group=has_group)
        return done.returncode, done.stdout

    status, expected = run_until(0, tmp_path / "whole")
    assert (status, expected.split()[:2]) == (0, ["base", "12"])
    folder = tmp_path / "parts"
    assert [run_until(batches, folder)[0] for batches in (1, 2, 3, 2)] == [143, 143, 143, 143]
    assert run_until(2, folder, "raise ValueError('of the program')")[0] == 1
    assert run_until(0, folder) == (0, expected)


def test_two_scenarios_in_two_threads_go_on_where_they_were(tmp_path: Path) -> None:
    code = """
barrier = threading.Barrier(2)
threads = [threading.Thread(target=train_scenario, args=(name, KILL_AT)) for name in ("one", "other")]
sucrose.scenario(folder, "main")  # the handler is installed in the main thread
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    wait = """barrier.wait(); term() if name == 'one' else None
                while not leaving.is_called_off(): time.sleep(0.01)"""
    (tmp_path / "config.yaml").write_text("main: {}\none: {}\nother: {}")
    done = run(SCENARIOS.replace("KILL", wait) + code.replace("KILL_AT", "5"), tmp_path)
    assert (done.returncode, done.stdout) == (143, ""), done.stderr
    done = run(SCENARIOS.replace("KILL", "pass") + code.replace("KILL_AT", "0"), tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(line.split()[:2] for line in done.stdout.splitlines()) == [["one", "12"], ["other", "12"]]
    assert (tmp_path / "ckpts" / "one" / "one_e4.pt").exists()

"""Processes of multiprocessing: what works for the program finds and saves nothing, what has states of its own does."""

from __future__ import annotations

import multiprocessing
import os
from typing import TYPE_CHECKING

import pytest
from state_program import count_generations, run, saved_step

from sucrose.errors import ForkError
from sucrose.state import workers
from sucrose.state.values import freeze
from sucrose.state.workers import NoCheckpoints, is_worker

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import os
from sucrose.state.group import StateManagerGroup

class Progress:
    step = 0

group = StateManagerGroup()
group.register("of the main module")
found = group.get("of the main module")
group.update("of the main module", found or Progress())

def work(_):
    return os.getpid(), found is None, group.list()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_that_import_the_main_module_again_find_and_save_nothing(tmp_path: Path, method: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    code = f"""
import multiprocessing
group.delete("progress")
__file__ = {str(path)!r}
exec(compile(open(__file__).read(), __file__, "exec"))
group.save()
with multiprocessing.get_context({method!r}).Pool(1) as pool:
    (worker, is_empty, keys), = pool.map(work, [0])
    pool.close()
    pool.join()  # the worker ends by itself
say(worker != os.getpid(), is_empty, keys)
say(len(os.listdir(folder + "/states")))
os._exit(0)
"""
    for generations in (1, 2):
        done = run(code, tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"True True ['of the main module']\n{generations}\n"


def test_a_worker_that_wants_to_save_is_told_where_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    process = multiprocessing.current_process()
    assert not is_worker()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    assert is_worker()
    checkpoints = NoCheckpoints()
    assert checkpoints.newest() is None
    for save in (checkpoints.save, checkpoints.begin_save):
        with pytest.raises(ForkError, match=f"the states a, b are not saved in process {os.getpid()}"):
            save({"a": freeze(1, "a"), "b": freeze(2, "b")})


def test_a_daemonic_process_is_a_worker_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    process = multiprocessing.Process(name="loader", daemon=True)
    monkeypatch.setattr(workers.multiprocessing, "current_process", lambda: process)
    assert is_worker()
    assert "loader" in caplog.text


OWN = """
import multiprocessing
def train():
    from sucrose.state.configured import configured_checkpoints
    StateManagerGroup._of_process = None  # as if the parent had never made one
    configured_checkpoints.cache_clear()
    group = StateManagerGroup()
    group.register("progress")
    group.update("progress", {"step": (group.get("progress") or {"step": 0})["step"] + 1})
    say("trained")
    WAY_OUT
process = multiprocessing.get_context("fork").Process(target=train, daemon=DAEMON)
process.start()
process.join()
say(process.exitcode)
os._exit(0)
"""


@pytest.mark.parametrize(
    ("way_out", "status"), [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1), ("term(); time.sleep(60)", 143)]
)
def test_a_forked_process_with_a_group_of_its_own_is_saved_at_its_end(
    tmp_path: Path, way_out: str, status: int
) -> None:
    code = OWN.replace("DAEMON", "False").replace("WAY_OUT", way_out)
    done = run(code, tmp_path)
    assert done.stdout == f"trained\n{status}\n", done.stderr
    assert saved_step(tmp_path) == 1


def test_a_forked_daemonic_process_is_not(tmp_path: Path) -> None:
    done = run(OWN.replace("DAEMON", "True").replace("WAY_OUT", ""), tmp_path)
    assert done.stdout == "trained\n0\n", done.stderr
    assert count_generations(tmp_path) == 0

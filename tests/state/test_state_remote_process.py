"""Programs that end, fork, are interrupted or killed while their states are on the way to a server."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from redis_server import RedisServer
from warm_python import WarmPython

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WARM_PYTHON = WarmPython()

PREAMBLE = """
import atexit, json, os, signal, sys, threading, time
import redis, torch
from redis.connection import AbstractConnection
from sucrose.errors import ForkError
from sucrose.state.remote import RemoteCheckpoints
from sucrose.state.values import freeze, thaw

torch.set_num_threads(1)  # the threads of OpenMP do not survive a fork
port = int(sys.argv[1])
server = redis.Redis(port=port)

def checkpoints(**options):
    return RemoteCheckpoints("job", "127.0.0.1", port, timeout_s=30, **options)

def states(count, nbytes=(8 << 20) + 1):
    return {
        "count": freeze(count, "count"),
        "tensor": freeze(torch.full((nbytes,), count, dtype=torch.uint8), "tensor"),
    }

def found():
    saved = checkpoints().newest()
    if saved is None:
        return None
    count, tensor = [thaw(saved.read(key), key=key, source="it", distrust=None) for key in ("count", "tensor")]
    assert (tensor == count).all()
    return count

def lasting_chunks():
    keys = [key for key in server.keys("job:chunks:*") if server.ttl(key) == -1]
    return sorted(int(key.rpartition(b":")[2]) for key in keys)

def generations():
    return [int(number) for number in server.zrange("job:generations", 0, -1)]
"""


@pytest.fixture(autouse=True, scope="module")
def python_ends_with_this_file() -> Iterator[None]:
    yield
    WARM_PYTHON.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.close()


def run(code: str, server: RedisServer, *, status: int = 0, **environment: str) -> str:
    result = WARM_PYTHON.run(PREAMBLE + code, [str(server.port)], {**os.environ, **environment})
    assert result.returncode == status, result.stderr
    return result.stdout


def test_a_writer_killed_at_any_command_leaves_the_old_states_or_the_new_and_nothing_that_stays(
    server: RedisServer,
) -> None:
    program = """
send = AbstractConnection.send_packed_command

def save_and_die(count, moment, how):
    calls = 0
    def dying(connection, command, *rest, **options):
        nonlocal calls
        calls += 1
        if calls == moment and how == "halfway" and connection._sock is not None:
            data = command if isinstance(command, (bytes, str)) else b"".join(bytes(part) for part in command)
            connection._sock.sendall(data[:len(data) // 2])
        if calls == moment and how == "sent":
            send(connection, command, *rest, **options)
        if calls == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return send(connection, command, *rest, **options)
    AbstractConnection.send_packed_command = dying
    checkpoints(keep_last=1).save(states(count))

checkpoints().save(states(0))
was = 0
attempt = 0
outcomes = []
for how in ("halfway", "sent"):
    status = None
    moment = 0
    while status != 0:
        moment += 1
        attempt += 1
        child = os.fork()
        if child == 0:
            save_and_die(attempt, moment, how)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.01)  # the server may still be at the last command
        now = found()
        outcomes.append({
            "how": how, "moment": moment, "status": status, "was": was, "attempt": attempt, "now": now,
            "generations": generations(), "chunks": lasting_chunks(), "quarantine": server.exists("job:quarantine"),
        })
        was = now
checkpoints(keep_last=1).save(states(99))
print(json.dumps({"outcomes": outcomes, "in the end": [found(), generations() == lasting_chunks()]}))
"""
    told: dict[str, Any] = json.loads(run(program, server))
    kills = [outcome for outcome in told["outcomes"] if outcome["status"] != 0]
    assert len(kills) > 20
    for outcome in told["outcomes"]:
        assert outcome["now"] in (outcome["was"], outcome["attempt"]), outcome
        assert outcome["chunks"] == outcome["generations"], outcome
        assert not outcome["quarantine"], outcome
    assert {outcome["now"] == outcome["attempt"] for outcome in kills} == {False, True}
    assert told["in the end"] == [99, True]


@pytest.mark.parametrize(
    ("way_out", "status"), [("pass", 0), ("sys.exit(3)", 3), ("raise RuntimeError('the end')", 1)], ids=str
)
def test_a_save_that_nobody_awaits_is_finished_at_the_end_of_the_program(
    server: RedisServer, way_out: str, status: int
) -> None:
    run(f"pending = checkpoints().begin_save(states(7))\n{way_out}\n", server, status=status)
    assert run("print(found())", server) == "7\n"


def test_an_exit_handler_can_save_both_ways(server: RedisServer) -> None:
    program = """
def late():
    pending = checkpoints().begin_save(states(1))
    assert pending.done()
    assert found() == 1
    checkpoints().save(states(2))

atexit.register(late)
"""
    run(program, server)
    assert run("print(found())", server) == "2\n"


def test_a_forked_child_leaves_its_parent_s_save_alone_and_has_connections_of_its_own(server: RedisServer) -> None:
    program = """
ours = checkpoints()
ours.save(states(1))
saved = ours.newest()
pending = ours.begin_save(states(2, 64 << 20))
child = os.fork()
if child == 0:
    for ask in (pending.done, pending.wait):
        try:
            ask()
            print("no error")
        except ForkError as error:
            assert str(os.getppid()) in str(error)
    assert thaw(saved.read("count"), key="count", source="it", distrust=None) == 1
    assert thaw(saved.read("count"), key="count", source="it", distrust=None) == 1
    ours.save(states(3))
    print("child", found())
    sys.stdout.flush()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
pending.wait()
print(sorted(generations()))
"""
    out = run(program, server)
    assert out in ("child 3\n[1, 2, 3]\n", "child 2\n[1, 2, 3]\n")


def test_a_handler_may_save_in_the_middle_of_everything(server: RedisServer) -> None:
    """A profile function is called between the very bytecodes that a signal handler is."""
    program = """
def at_moment(moment, act, handler):
    events = 0
    def profile(frame, event, argument):
        nonlocal events
        if "/sucrose/state/remote/" in frame.f_code.co_filename:
            events += 1
            if events == moment:
                sys.setprofile(None)
                handler()
    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(None)
    return events

def handler():
    checkpoints(keep_last=3).save(states(2, 10))
    nonlocal_pending.append(checkpoints().begin_save(states(3, 10)))
    nonlocal_pending[-1].wait()
    assert checkpoints().newest() is not None

class Stop(BaseException):
    pass

def stop():
    handler()
    raise Stop

def background():
    ours = checkpoints(keep_last=3)
    ours.begin_save(states(1, 10))
    ours.begin_save(states(1, 10)).wait()

nonlocal_pending = []
acts = {
    "save": lambda: checkpoints(keep_last=3).save(states(1, 10)),
    "background": background,
    "newest": lambda: checkpoints().newest(),
}
for name, act in acts.items():
    total = at_moment(0, act, handler)
    moments = range(1, total + 1, max(1, total // 25))
    for moment in moments:
        at_moment(moment, act, handler)
        try:
            at_moment(moment, act, stop)
        except Stop:
            pass
    print(name, total > 20)
while any(thread.name == "sucrose-save" for thread in threading.enumerate()):
    time.sleep(0.01)
checkpoints().save(states(9, 10))
print(found(), generations() == lasting_chunks(), server.exists("job:quarantine"))
"""
    assert run(program, server) == "save True\nbackground True\nnewest True\n9 True 0\n"


def test_a_program_finds_its_states_again_through_the_settings(server: RedisServer, tmp_path: Path) -> None:
    program = """
from sucrose.state.group import StateManagerGroup

group = StateManagerGroup()
group.register("steps")
group.register("weight")
steps = group.get("steps") or {"count": 0}
weight = group.get("weight")
print(steps["count"], None if weight is None else weight.sum().item())
steps["count"] += 1
group.update("steps", steps)
group.update("weight", torch.full((3,), float(steps["count"])))
"""
    environment = {
        "LATTICE_CHECKPOINT_TYPE": "Remote",
        "LATTICE_CHECKPOINT_CONFIG": (
            f"job_id=a=b, ckpt_service_endpoint=127.0.0.1, ckpt_service_port={server.port}, keep_last=2"
        ),
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
    }
    told = [run(program, server, **environment) for _ in range(4)]
    assert told == ["0 None\n", "1 3.0\n", "2 6.0\n", "3 9.0\n"]
    assert len(server.generations("a%3Db")) == 2

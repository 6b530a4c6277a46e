"""Several ranks, each in a process of its own, as torchrun would have started them.

`run_ranks` forks them from a process that has torch imported. They set up ``torch.distributed`` with gloo on this
machine's loopback interface, run one function or program, and leave behind what they returned or raised::

    def program(rank, world_size, folder):
        import sucrose  # a function brings its imports along: it runs in another process
        point("about to take")
        ...
        return rank

    outcomes = run_ranks(2, program, tmp_path, arguments=[str(folder)], kills={1: "about to take"})
    assert outcomes[1].status == -signal.SIGKILL
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import pickle
import subprocess
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warm_python import WarmPython

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_LAUNCHER = """
import ctypes, datetime, json, os, pickle, signal, sys, time
import torch.distributed as dist

job = json.loads(open(sys.argv[1]).read())
folder = job["folder"]

def fork():
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with the launcher
    return child

def path(rank, kind):
    return os.path.join(folder, f"{rank}.{kind}")

def publish(name, content):
    with open(os.path.join(folder, name + ".new"), "wb") as file:
        file.write(content)
    os.replace(os.path.join(folder, name + ".new"), os.path.join(folder, name))

def wait_for_file(name):
    while not os.path.exists(os.path.join(folder, name)):
        time.sleep(0.002)
    with open(os.path.join(folder, name), "rb") as file:
        return file.read()

def point(name):
    publish(f"{rank}.at.{name}", b"")
    if job["kills"].get(str(rank)) == name:
        os.kill(os.getpid(), signal.SIGKILL)

def wait_for_point(other, name):
    wait_for_file(f"{other}.at.{name}")

def keep_store():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    publish("port", str(store.port).encode())
    signal.pause()

def set_up():
    store, host = None, job["store"]
    if host == "rank 0" and rank == 0:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        publish("port", str(store.port).encode())
    elif host == "file":
        store = dist.FileStore(os.path.join(folder, "store"), world_size)
    if host != "file":
        port = wait_for_file("port").decode()
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    if host == "rank 0" and rank > 0:
        store = dist.TCPStore("127.0.0.1", int(port), is_master=False, wait_for_workers=False)
    if job["backend"] is None:
        return
    given = dict(store=store, rank=rank, world_size=world_size) if store is not None else {}
    dist.init_process_group(job["backend"], timeout=datetime.timedelta(seconds=job["timeout_s"]), **given)
    publish(f"{rank}.is set up", b"")  # a rank that dies at once shall not catch others while they connect
    for other in range(world_size):
        wait_for_file(f"{other}.is set up")

world_size = job["world_size"]
if job["store"] == "torchrun" and fork() == 0:
    keep_store()
ranks = []
for rank in range(world_size):
    ranks.append(fork())
    if ranks[-1] == 0:
        break
else:
    statuses = {}
    while len(statuses) < world_size:
        ended, status = os.wait()
        if ended in ranks:
            statuses[ranks.index(ended)] = os.waitstatus_to_exitcode(status)
            publish(f"{ranks.index(ended)}.at.the end", b"")
    publish("statuses", json.dumps([statuses[one] for one in range(world_size)]).encode())
    os._exit(0)

for number, name in ((1, "stdout"), (2, "stderr")):
    os.dup2(os.open(path(rank, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE=str(world_size))
os.environ.update(GLOO_SOCKET_IFNAME="lo")
if job["store"] == "torchrun":
    os.environ.update(TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0")
sys.argv = ["program", *map(str, job["arguments"])]
try:
    set_up()
    namespace = {"__name__": "__main__", "point": point, "wait_for_point": wait_for_point}
    exec(compile(job["program"], "<program>", "exec"), namespace)
    value = None
    if job["function"] is not None:
        value = namespace[job["function"]](rank, world_size, *job["arguments"])
    publish(f"{rank}.outcome", pickle.dumps((value, None)))
    if job["backend"] is not None and dist.is_initialized():
        dist.destroy_process_group()
except BaseException as error:
    try:
        publish(f"{rank}.outcome", pickle.dumps((None, error)))
    except Exception:
        pass
    raise
"""

_FUTURE = "from __future__ import annotations\n"


@dataclass(frozen=True)
class RankOutcome:
    """What became of one rank.

    Attributes:
        status: of the process; a signal is negative.
        value: what the function returned.
        error: what it raised.
        stdout: what the process printed.
        stderr: likewise.
    """

    status: int
    value: Any
    error: BaseException | None
    stdout: str
    stderr: str


def run_ranks(
    world_size: int,
    program: Callable[..., Any] | str,
    tmp_path: Path,
    timeout_s: float = 120,
    *,
    arguments: Sequence[Any] = (),
    environment: Mapping[str, str] | None = None,
    kills: Mapping[int, str] | None = None,
    store: str = "rank 0",
    backend: str | None = "gloo",
) -> list[RankOutcome]:
    """Runs `program` on every rank and waits until all have ended.

    Both forms may call ``point(name)``, and ``wait_for_point(rank, name)``, which returns when that rank has been
    there; each rank has been at ``"the end"`` when its process has ended, however that came.

    Args:
        world_size: how many.
        program: a function of a test module that is called with rank, world size and `arguments`, and whose source
            is all it needs; or the text of a program.
        tmp_path: a folder; what the ranks leave lies in new folders below it.
        timeout_s: for all of them.
        arguments: for the function, or `sys.argv`; what JSON can carry.
        environment: variables besides this process's.
        kills: the point at which a rank is killed.
        store: who keeps the group's store: ``"rank 0"``, ``"torchrun"`` (neither rank), or ``"file"``.
        backend: of the process group; None if the program sets it up by itself (with `store` ``"torchrun"``).

    Returns:
        The outcomes, by rank.

    Raises:
        TimeoutError: some have not ended in time; all were killed.
    """
    folder = _new_folder(tmp_path)
    is_text = isinstance(program, str)
    job = {
        "folder": str(folder),
        "world_size": world_size,
        "program": program if is_text else _FUTURE + textwrap.dedent(inspect.getsource(program)),
        "function": None if is_text else program.__name__,
        "arguments": list(arguments),
        "kills": {str(rank): name for rank, name in (kills or {}).items()},
        "store": store,
        "backend": backend,
        "timeout_s": timeout_s,
    }
    (folder / "job").write_text(json.dumps(job))
    try:
        _warm.run(_LAUNCHER, [str(folder / "job")], {**os.environ, **(environment or {})}, timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        told = {rank: _text(folder / f"{rank}.stderr")[-4000:] for rank in range(world_size)}
        at = sorted(path.name for path in folder.glob("*.at.*"))
        raise TimeoutError(f"not all ranks ended within {timeout_s} s; points: {at}; stderr: {told}") from None
    statuses = json.loads((folder / "statuses").read_text())
    return [_outcome(folder, rank, status) for rank, status in enumerate(statuses)]


def point(name: str) -> None:
    """In a program of `run_ranks`: this rank is here, and dies here if `kills` says so."""
    raise RuntimeError(f"{name}: not in a program of run_ranks")


def wait_for_point(rank: int, name: str) -> None:
    """In a program of `run_ranks`: returns when `rank` has been there."""
    raise RuntimeError(f"{rank}, {name}: not in a program of run_ranks")


def values_of(outcomes: Sequence[RankOutcome]) -> list[Any]:
    """What the function has returned on each rank, where all have come to the end of it."""
    failed = {rank: one.stderr[-4000:] for rank, one in enumerate(outcomes) if one.status or one.error}
    assert not failed, failed
    return [outcome.value for outcome in outcomes]


# An optimizer imports torch._dynamo, which takes each process two seconds.
_warm = WarmPython(preload="import torch, torch.distributed, torch._dynamo")
atexit.register(_warm.close)


def _new_folder(tmp_path: Path) -> Path:
    number = len(list(tmp_path.glob("ranks-*")))
    folder = tmp_path / f"ranks-{number}"
    folder.mkdir()
    return folder


def _outcome(folder: Path, rank: int, status: int) -> RankOutcome:
    path = folder / f"{rank}.outcome"
    value, error = pickle.loads(path.read_bytes()) if path.exists() else (None, None)
    return RankOutcome(status, value, error, _text(folder / f"{rank}.stdout"), _text(folder / f"{rank}.stderr"))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

"""Programs with states under the real torchrun: their ends, a rank that is killed, a restart, SIGTERM to the agent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from sucrose import Catalog

if TYPE_CHECKING:
    from pathlib import Path

    from sucrose.catalog import Generation

PROGRAM = """
import json, os, signal, sys, time
import torch, torch.distributed as dist
from sucrose import StateManagerGroup, should_stop

dist.init_process_group("gloo")
rank = dist.get_rank()
folder, how = sys.argv[1:]
group = StateManagerGroup()
for key in ("shared", "own"):
    group.register(key)
shared = group.get("shared") or {"step": 0, "weights": torch.zeros(100)}
own = group.get("own") or {"rank": rank, "step": 0}
group.update("shared", shared)
group.update("own", own)

def tell(name):
    with open(f"{folder}/{how}-{rank}.{name}.new", "w") as file:
        json.dump([shared["step"], shared["weights"].sum().item(), own], file)
    os.rename(file.name, file.name[:-4])

tell("found")
steps = 0
while not (how == "asks" and should_stop()):
    dist.all_reduce(torch.ones(10))
    shared["step"] += 1
    shared["weights"] += 1
    own["step"] += 1
    steps += 1
    if steps == 10:
        tell("goes")
        if how == "dies" and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
tell("end")
time.sleep(rank / 2)  # they end one after another
dist.destroy_process_group()
"""


def start(folder: Path, how: str) -> subprocess.Popen[str]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "HOME": str(folder),
        "LATTICE_CHECKPOINT_CONFIG": f"root={folder}/states",
        "SUCROSE_LAST_SAVE_WAIT_S": "8",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with (folder / f"{how}.log").open("w") as log:
        arguments = [str(program), str(folder), how]
        return subprocess.Popen([*command, *arguments], env=environment, stdout=log, stderr=log, text=True)


def told(folder: Path, name: str, timeout_s: float = 90) -> list[list[object]]:
    """What both ranks have told, as soon as they have."""
    deadline = time.monotonic() + timeout_s
    paths = [folder / name.replace("RANK", str(rank)) for rank in (0, 1)]
    while not all(path.exists() for path in paths):
        logs = {path.name: path.read_text()[-3000:] for path in folder.glob("*.log")}
        assert time.monotonic() < deadline, logs
        time.sleep(0.02)
    return [json.loads(path.read_text()) for path in paths]


def test_states_are_found_again_after_sigterm_and_stay_as_they_were_when_a_rank_is_killed(tmp_path: Path) -> None:
    asks = start(tmp_path, "asks")
    told(tmp_path, "asks-RANK.goes")
    asks.send_signal(signal.SIGTERM)  # torchrun hands it to the ranks
    assert asks.wait(90) != 0
    saved = told(tmp_path, "asks-RANK.end")
    step = saved[0][0]
    assert isinstance(step, int)
    assert saved == [[step, step * 100.0, {"rank": rank, "step": step}] for rank in (0, 1)]
    [generation] = generations(tmp_path)
    manifest = generation.snapshot().get_manifest()
    assert [path for path in sorted(manifest) if path.endswith("/pickle")] == [
        "0/states/own/pickle",
        "0/states/shared/pickle",
        "1/states/own/pickle",
    ]

    dies = start(tmp_path, "dies")
    assert dies.wait(90) != 0
    assert told(tmp_path, "dies-RANK.found") == saved
    assert generations(tmp_path) == [generation]
    assert "saving the states of all ranks was called off: rank 1 did not come" in log_of(tmp_path, "dies")


def generations(folder: Path) -> list[Generation]:
    return Catalog(folder / "states").generations()


def log_of(folder: Path, how: str) -> str:
    return (folder / f"{how}.log").read_text()

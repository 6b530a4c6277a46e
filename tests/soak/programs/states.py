"""Counts steps in five states of state managers that always agree."""

from __future__ import annotations

import os
import sys
import time

import torch
from soak.oracle import Oracle

from sucrose.state.group import StateManagerGroup
from sucrose.state.managers import StateClosureManager, StateCopyManager
from sucrose.state.symbolic import StateSymbolicManager

FOLDER = sys.argv[1]
KEYS = ["progress", "copy", "pair", "counter", "lines"]
SAVE_EVERY = 37  # steps, besides the periodic saves
MAX_LINES_NBYTES = 1 << 16

oracle = Oracle(FOLDER)


def new_progress(step: int, token: str) -> dict[str, object]:
    return {"step": step, "token": token, "tensor": torch.full((5000,), step), "words": {token, "same"}}


group = StateManagerGroup()
group.register("progress")
group.register("copy", StateCopyManager)
group.register("pair", StateClosureManager)
group.register("counter", StateSymbolicManager)
group.register("lines")

# What was found is complete, and all of one moment.
found = {key: group.get(key) for key in KEYS}
missing = [key for key in KEYS if found[key] is None]
if missing:
    assert missing == KEYS, f"only some states were found: {missing} are missing"
    oracle.nothing()
    counter, token, lines = 0, "start", open(f"{FOLDER}/lines", "w")  # noqa: SIM115 - open until the program is killed
else:
    counter, token = found["pair"]
    assert found["counter"] == counter, found
    for progress in (found["progress"], found["copy"]):
        assert (progress["step"], progress["token"]) == (counter, token), found
        assert progress["words"] == {token, "same"}, found
        assert progress["tensor"].eq(counter).all(), found
    lines = found["lines"]
    with open(lines.name) as again:
        last = again.read().splitlines()[-1]
    assert last == f"{counter} {token}", (last, found)
    assert lines.tell() == os.path.getsize(lines.name), found
    oracle.found(counter, token)

group.pause_periodic_saving()
group.update("progress", new_progress(counter, token))
group.update("copy", new_progress(counter, token))
group.update("pair", lambda: (counter, token))
group.update("counter", counter)
group.update("lines", lines)
while True:
    token = oracle.had(counter + 1)
    counter += 1
    group.update("progress", new_progress(counter, token))
    group.update("copy", new_progress(counter, token))
    if lines.tell() > MAX_LINES_NBYTES:
        lines.seek(0)
        lines.truncate()
    lines.write(f"{counter} {token}\n")
    group.resume_periodic_saving()
    if counter % SAVE_EVERY == 0:
        assert group.save()
        oracle.durable(counter, token)
    time.sleep(0.001)
    group.pause_periodic_saving()

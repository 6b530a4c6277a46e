"""Overwrites one snapshot, in the foreground and behind its back, with and without a base."""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

from soak.oracle import Oracle, TrainingState, checked

from sucrose import PendingSnapshot, Snapshot, StateDict

FOLDER = Path(sys.argv[1])
TARGET, BASE = FOLDER / "newest", FOLDER / "base"
RANDOM = random.SystemRandom()

oracle = Oracle(str(FOLDER))
state = TrainingState()
step = 0
if TARGET.exists():
    assert Snapshot(TARGET).verify()
    step, token = checked(Snapshot(TARGET).get_state_dict_for_key("state"))
    oracle.found(step, token)
else:
    oracle.nothing()
for leftover in FOLDER.glob(".*.tmp-*"):
    shutil.rmtree(leftover)
if not BASE.exists():
    Snapshot.take(os.fspath(BASE), {"state": StateDict(state.values)}, fingerprints=True)

pending: tuple[PendingSnapshot, int, str] | None = None
while True:
    step += 1
    token = oracle.had(step)
    state.change(step, token)
    app_state = {"state": StateDict(state.values)}
    base = os.fspath(BASE) if RANDOM.random() < 0.4 else None
    if RANDOM.random() < 0.5:
        Snapshot.take(os.fspath(TARGET), app_state, overwrite=True, base=base)
        oracle.durable(step, token)
        pending = None
    else:
        pending = (Snapshot.async_take(os.fspath(TARGET), app_state, overwrite=True, base=base), step, token)
    if pending is not None and RANDOM.random() < 0.3:
        pending[0].wait()
        oracle.durable(*pending[1:])

"""Saves generations to a catalog that keeps a few of them, most of them incremental."""

from __future__ import annotations

import random
import sys

from soak.oracle import Oracle, TrainingState, checked

from sucrose import Catalog, StateDict

FOLDER = sys.argv[1]
RANDOM = random.SystemRandom()

oracle = Oracle(FOLDER)
state = TrainingState()
catalog = Catalog(f"{FOLDER}/generations", keep_last=2, keep_every=100, full_every=4)
found = StateDict(TrainingState().values)
newest = catalog.restore_latest({"state": found})
step = 0
if newest is None:
    oracle.nothing()
else:
    step, token = checked(found)
    assert newest.step == step
    oracle.found(step, token)

while True:
    step += 1
    token = oracle.had(step)
    state.change(step, token)
    app_state = {"state": StateDict(state.values)}
    if RANDOM.random() < 0.5:
        catalog.save(step, app_state)
        oracle.durable(step, token)
    else:
        pending = catalog.async_save(step, app_state)
        if RANDOM.random() < 0.3:
            pending.wait()
            oracle.durable(step, token)

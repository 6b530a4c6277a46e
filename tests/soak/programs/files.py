"""Overwrites one file with `sucrose.save`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from soak.oracle import Oracle, TrainingState, checked

import sucrose

FOLDER = Path(sys.argv[1])
TARGET = FOLDER / "newest.pt"

oracle = Oracle(str(FOLDER))
state = TrainingState()
step = 0
if TARGET.exists():
    step, token = checked(sucrose.load(TARGET))
    assert (step, token) == checked(torch.load(TARGET, weights_only=True))
    oracle.found(step, token)
else:
    oracle.nothing()
for leftover in FOLDER.glob(".newest.pt.tmp-*"):
    leftover.unlink()

while True:
    step += 1
    token = oracle.had(step)
    state.change(step, token)
    sucrose.save(state.values, TARGET)
    oracle.durable(step, token)

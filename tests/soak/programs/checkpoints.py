"""Saves the checkpoints of a scenario, single files or snapshots, not after every epoch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from soak.oracle import Oracle, TrainingState, checked

import sucrose

FOLDER, EXTENSION = Path(sys.argv[1]), sys.argv[2]
INTERVAL = 3
CONFIG = f"workspace: {{ckpts_extension: {EXTENSION}, keep: {{last: 2, every: 100}}}}\nbase: {{}}\n"


class Progress:
    """An object of the scenario's."""

    def __init__(self) -> None:
        self.state = TrainingState()
        self.was_found: tuple[int, str] | None = None

    def state_dict(self) -> dict[str, Any]:
        return self.state.values

    def load_state_dict(self, values: dict[str, Any]) -> None:
        self.was_found = checked(values)


(FOLDER / "config.yaml.new").write_text(CONFIG)
os.replace(FOLDER / "config.yaml.new", FOLDER / "config.yaml")
oracle = Oracle(str(FOLDER))
progress = Progress()
scenario = sucrose.Scenario(FOLDER, "base")
scenario.load_state_dict(progress=progress)
if progress.was_found is None:
    oracle.nothing()
else:
    assert progress.was_found[0] == scenario.epoch
    oracle.found(*progress.was_found)

for _ in scenario.epoch_range(1 << 30):
    step = scenario.epoch + 1
    token = oracle.had(step)
    progress.state.change(step, token)
    scenario.save_state_dict(INTERVAL, progress=progress)
    if step % INTERVAL == 0 and EXTENSION == ".pt":
        oracle.durable(step, token)

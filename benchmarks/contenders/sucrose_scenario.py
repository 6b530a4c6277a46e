"""Ours: what a scenario does at the end of an epoch, on top of single files and of `Snapshot`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import Contender, Role, already_complete

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class SucroseScenario(Contender):
    name = "sucrose scenario"
    role = Role.OURS
    distribution = "torch-sucrose"
    durable = True
    note = "save_state_dict(1, …) to a .pt file, and load_state_dict"
    extension = ".pt"
    interval = 1

    def __init__(self) -> None:
        self._scenario = import_module("sucrose").Scenario

    def save(self, state: State, path: Path) -> None:
        self.start(state, path)()

    def start(self, state: State, path: Path) -> Callable[[], object]:
        scenario = self._begin(path)
        scenario.save_state_dict(self.interval, state=dict(state))
        return scenario.close if self.has_more_to_do() else already_complete

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        loaded: Mapping[str, Tensor] = self._begin(path).load_state_dict()["state"]
        return loaded

    def has_more_to_do(self) -> bool:
        """Whether a save is not complete when it returns."""
        return self.interval > 1 or self.extension != ".pt"

    def _begin(self, path: Path) -> Any:
        path.mkdir(exist_ok=True)
        (path / "config.yaml").write_text(f"base: {{}}\nworkspace: {{ckpts_extension: {self.extension}}}\n")
        return self._scenario(path, "base")


class SucroseScenarioSnapshot(SucroseScenario):
    name = "sucrose scenario, snapshots"
    note = "the same with ckpts_extension: .snapshot, in the background"
    extension = ".snapshot"


class SucroseScenarioHeld(SucroseScenario):
    name = "sucrose scenario, held"
    note = "save_state_dict(10, …), which copies; the file is written by close()"
    interval = 10

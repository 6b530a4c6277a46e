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
    note = "save_state_dict(1, …) to a .pt file, and load_state_dict; one scenario, which the first sample starts"
    extension = ".pt"
    interval = 1

    def __init__(self) -> None:
        self._scenario = import_module("sucrose").Scenario
        self._running: Any = None

    def save(self, state: State, path: Path) -> None:
        self.start(state, path)()

    def start(self, state: State, path: Path) -> Callable[[], object]:
        if self._running is None:
            self._running = self._begin(path)
        self._running.save_state_dict(self.interval, state=dict(state))
        return already_complete if self.extension == ".pt" else self._write_the_rest

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        if self._running is not None:
            self._write_the_rest()
            self._running = None  # another object of the same scenario ends it
        loaded: Mapping[str, Tensor] = self._begin(path).load_state_dict()["state"]
        return loaded

    def _write_the_rest(self) -> None:
        self._running.save_before_end(at_boundary=False)

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
    note = "save_state_dict(10⁶, …), which copies: a file is written at the end of the program"
    interval = 10**6

"""Ours: the catalog, and the states of the state managers, each on top of `Snapshot`."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.contenders.base import Contender, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class SucroseCatalog(Contender):
    name = "sucrose Catalog"
    role = Role.OURS
    distribution = "torch-sucrose"
    durable = True
    note = "Catalog.save, async_save and restore_latest"

    def __init__(self) -> None:
        sucrose = import_module("sucrose")
        self._catalog, self._state_dict = sucrose.Catalog, sucrose.StateDict

    def save(self, state: State, path: Path) -> None:
        self._catalog(path).save(1, {"state": self._state_dict(**state)})

    def start(self, state: State, path: Path) -> Callable[[], object]:
        return partial(self._catalog(path).async_save(1, {"state": self._state_dict(**state)}).wait)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        target = self._state_dict(**state)
        self._catalog(path).restore_latest({"state": target})
        return dict(target)


class SucroseStates(Contender):
    name = "sucrose states"
    role = Role.OURS
    distribution = "torch-sucrose"
    durable = True
    note = "what a save of StateManagerGroup does with one state; load: verifies, then reads into new tensors"

    def __init__(self) -> None:
        self._checkpoints = import_module("sucrose.state.local").LocalCheckpoints
        values = import_module("sucrose.state.values")
        self._freeze, self._thaw = values.freeze, values.thaw

    def save(self, state: State, path: Path) -> None:
        self._checkpoints(str(path), keep_last=None).save({"state": self._freeze(state, "state")})

    def start(self, state: State, path: Path) -> Callable[[], object]:
        checkpoints = self._checkpoints(str(path), keep_last=None)
        return partial(checkpoints.begin_save({"state": self._freeze(state, "state")}).wait)

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:  # noqa: ARG002
        newest = self._checkpoints(str(path), keep_last=None).newest()
        loaded: Mapping[str, Tensor] = self._thaw(newest.read("state"), key="state", source=str(path), distrust=None)
        return loaded

"""Ours, with a base: a save of a state of which only a part has changed since the last one."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import Role
from benchmarks.contenders.sucrose_snapshot import SucroseSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class _SucroseIncremental(SucroseSnapshot):
    """Takes its base with the first save, which is reported apart from the others."""

    role = Role.OURS

    def __init__(self) -> None:
        super().__init__()
        self._base: Any = None
        self._int32 = import_module("torch").int32

    def save(self, state: State, path: Path) -> None:
        self._snapshot.take(str(path), self._app_state(state), base=self._based_on(state, path))

    def start(self, state: State, path: Path) -> Callable[[], object]:
        base = self._based_on(state, path)
        return partial(self._snapshot.async_take(str(path), self._app_state(state), base=base).wait)

    def _based_on(self, state: State, path: Path) -> Any:
        """A snapshot of the state as it was before a part of it changed; its files lie beside `path`."""
        if self._base is None:
            self._change(state)
            self._base = self._snapshot.take(f"{path}-base", self._app_state(state), fingerprints=True)
            self._change(state)
        return self._base

    def _change(self, state: State) -> None:
        """Flips a bit of everything that has changed; once more, and it is as it was."""
        for part in self._changed(list(state.values())):
            part.view(self._int32).bitwise_xor_(1)

    def _changed(self, tensors: list[Tensor]) -> Iterable[Tensor]:
        raise NotImplementedError


class SucroseFrozen(_SucroseIncremental):
    name = "sucrose, base, 1 of 16 tensors changed"
    note = "Snapshot.take(base=...): writes 1/16 of the bytes; restores in place from both"

    def _changed(self, tensors: list[Tensor]) -> Iterable[Tensor]:
        return tensors[::16]


class SucroseRows(_SucroseIncremental):
    name = "sucrose, base, 1 % of rows changed"
    note = "rows side by side at the beginning of each tensor: one piece of 4 MiB of each is written"

    def _changed(self, tensors: list[Tensor]) -> Iterable[Tensor]:
        return [tensor[: max(1, len(tensor) // 100)] for tensor in tensors]


class SucroseSame(_SucroseIncremental):
    name = "sucrose, base, nothing changed"
    role = Role.NOTE
    note = "what looking at all of the state takes, and nothing else"

    def _changed(self, tensors: list[Tensor]) -> Iterable[Tensor]:  # noqa: ARG002
        return []

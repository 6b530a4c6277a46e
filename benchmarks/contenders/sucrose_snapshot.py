"""Ours: ``Snapshot.take``, ``async_take`` and ``restore``, in place."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.base import Contender, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


class SucroseSnapshot(Contender):
    name = "sucrose"
    role = Role.OURS
    distribution = "torch-sucrose"
    durable = True
    note = "Snapshot.take and restore, digests written and checked; restores in place"
    verify = True

    def __init__(self) -> None:
        sucrose = import_module("sucrose")
        self._snapshot, self._state_dict = sucrose.Snapshot, sucrose.StateDict

    def save(self, state: State, path: Path) -> None:
        self._snapshot.take(str(path), self._app_state(state), compression=self.compression())

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        target = self._state_dict(**state)
        self._snapshot(str(path)).restore({"state": target}, verify=self.verify)
        return dict(target)

    def compression(self) -> Any:
        """The argument of `take`; None leaves it to the options, which say no."""
        return None

    def _app_state(self, state: State) -> dict[str, Any]:
        return {"state": self._state_dict(**state)}


class SucroseUnverified(SucroseSnapshot):
    name = "sucrose, verify=False"
    role = Role.NOTE
    note = "the same without checking the digests on load"
    verify = False


class SucroseCompressed(SucroseSnapshot):
    name = "sucrose, compressed"
    note = "Compression(): byte groups, entropy coding"

    def compression(self) -> Any:
        return import_module("sucrose").Compression()


class SucroseAuto(SucroseSnapshot):
    name = "sucrose, auto"
    role = Role.NOTE
    note = 'compression="auto": the same where it is faster than the disk'

    def compression(self) -> Any:
        return "auto"


class SucroseZstd1(SucroseSnapshot):
    name = "sucrose, zstd:1"
    role = Role.NOTE
    note = 'compression="zstd:1", without filter'

    def compression(self) -> Any:
        return "zstd:1"


class SucroseZstd1Filter(SucroseSnapshot):
    name = "sucrose, zstd:1 and filter"
    role = Role.NOTE
    note = "Compression(level=1): byte groups"

    def compression(self) -> Any:
        return import_module("sucrose").Compression(level=1)


class SucroseZstd3(SucroseSnapshot):
    name = "sucrose, zstd:3"
    role = Role.NOTE
    note = 'compression="zstd:3", without filter'

    def compression(self) -> Any:
        return "zstd:3"


class SucroseZstd3Filter(SucroseSnapshot):
    name = "sucrose, zstd:3 and filter"
    role = Role.NOTE
    note = "Compression(level=3): byte groups"

    def compression(self) -> Any:
        return import_module("sucrose").Compression(level=3)


class SucroseAsync(SucroseSnapshot):
    name = "sucrose async_take"
    note = "Snapshot.async_take, digests written, durable when wait returns"

    def start(self, state: State, path: Path) -> Callable[[], object]:
        pending = self._snapshot.async_take(str(path), self._app_state(state))
        return partial(pending.wait)

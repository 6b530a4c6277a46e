"""States in a local directory: a catalog, each generation a snapshot with all states in it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from typing import Any

from sucrose.catalog import Catalog
from sucrose.catalog.pending import PendingGeneration
from sucrose.errors import CorruptionError
from sucrose.formats.manifest import DictEntry
from sucrose.snapshot.capture import RANK
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.snapshot import Snapshot
from sucrose.state.trust import distrust_of
from sucrose.state.values import FrozenState, from_state_dict, to_state_dict
from sucrose.storage import local_path
from sucrose.storage.leases import Lease

_STATES = "states"
"""The one stateful of these snapshots: a dict from a state's key to its parts."""


class LocalCheckpoints:
    """Implements `Checkpoints`. Thread-safe."""

    def __init__(self, root: str, *, keep_last: int | None) -> None:
        """Opens the directory, and makes it where there is none.

        Raises:
            PermissionError: this user may not read and write it.
            OSError: it cannot be made.
        """
        self.where = os.path.abspath(os.path.expanduser(local_path(root)))
        os.makedirs(self.where, mode=0o700, exist_ok=True)
        if not os.access(self.where, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(
                errno.EACCES, "states cannot be kept here: no permission to read and write", self.where
            )
        self._catalog = Catalog(self.where, keep_last=keep_last)
        self._step: int | None = None

    def save(self, states: Mapping[str, FrozenState]) -> None:
        self._catalog.save(self._next_step(), {_STATES: _States(states)}, progress=False)

    def begin_save(self, states: Mapping[str, FrozenState]) -> LocalPendingSave:
        began_ns = time.time_ns()
        return LocalPendingSave(self._catalog.async_save(self._next_step(), {_STATES: _States(states)}), began_ns)

    def newest(self) -> LocalStates | None:
        while (generation := self._catalog.latest(verify=True)) is not None:
            lease = generation.lease()
            if lease is not None:  # not removed between the two lines
                return LocalStates(generation.path, lease, distrust_of(self.where))
        return None

    def _next_step(self) -> int:
        """Counts generations. Other processes may come to the same number, which does not matter."""
        if self._step is None:
            newest = self._catalog.latest()
            self._step = 0 if newest is None else newest.step
        self._step += 1
        return self._step


class LocalPendingSave:
    """Implements `PendingSave`."""

    def __init__(self, pending: PendingGeneration, began_ns: int) -> None:
        self._pending = pending
        self._began_ns = began_ns

    def done(self) -> bool:
        return self._pending.done()

    def wait(self, timeout_s: float | None = None) -> None:
        self._pending.wait(timeout_s)

    def took_s(self) -> float:
        return max(0.0, (self._pending.wait().committed_ns - self._began_ns) / 1e9)


class LocalStates:
    """Implements `SavedStates`."""

    def __init__(self, path: str, lease: Lease, distrust: str | None) -> None:
        self._snapshot = Snapshot(path)
        self._lease = lease
        self.distrust = distrust

    def keys(self) -> list[str]:
        entry = self._snapshot.metadata.manifest.get(f"{RANK}/{_STATES}")
        if not isinstance(entry, DictEntry):
            raise CorruptionError(f"{self._snapshot.path} holds no states of a program", path=self._snapshot.path)
        return [str(key) for key in entry.keys]

    def read(self, key: str) -> FrozenState:
        if key not in self.keys():
            raise KeyError(key)
        return from_state_dict(self._snapshot.read_object(f"{RANK}/{_STATES}/{encode_key(key)}"))

    def close(self) -> None:
        self._lease.release()


class _States:
    """Makes states a stateful that is only ever saved."""

    def __init__(self, states: Mapping[str, FrozenState]) -> None:
        self._states = states

    def state_dict(self) -> dict[str, Any]:
        return {key: to_state_dict(state) for key, state in self._states.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: ARG002 - the interface has it
        raise TypeError("states are read one by one")

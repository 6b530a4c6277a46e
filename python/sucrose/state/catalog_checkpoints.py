"""States in a catalog, wherever that is: each generation a snapshot with all states in it."""

from __future__ import annotations

import errno
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sucrose.catalog import Catalog
from sucrose.errors import StorageError
from sucrose.state.catalog_states import STATES, globs_of
from sucrose.state.settings import CHECKPOINT_CONFIG
from sucrose.state.values import FrozenState, to_state_dict

if TYPE_CHECKING:
    from sucrose.catalog.generation import Generation
    from sucrose.catalog.pending import PendingGeneration
    from sucrose.ranks import Ranks
    from sucrose.state.checkpoints import SavedStates

REFUSED = "states cannot be kept here"
WAY_OUT = f"{CHECKPOINT_CONFIG}='root=...' chooses another place"
_STEP = struct.Struct("<Q")


class CatalogCheckpoints(ABC):
    """Implements `CollectiveCheckpoints`. Thread-safe.

    Attributes:
        where: path or URL of the catalog.
    """

    def __init__(self, root: str, *, keep_last: int | None, storage_options: Mapping[str, Any] | None = None) -> None:
        self._open_catalog = partial(Catalog, root, keep_last=keep_last, storage_options=storage_options)
        self._catalog = self._open_catalog()
        self.where = self._catalog.root
        self._step: int | None = None

    def save(self, states: Mapping[str, FrozenState]) -> None:
        self._catalog.save(self._next_step(), {STATES: _States(states)}, progress=False)

    def begin_save(self, states: Mapping[str, FrozenState]) -> PendingStates:
        began_ns = time.time_ns()
        return PendingStates(self._catalog.async_save(self._next_step(), {STATES: _States(states)}), began_ns)

    def save_together(self, states: Mapping[str, FrozenState], ranks: Ranks, replicated: Collection[str]) -> None:
        with ranks.begin("numbering a generation") as exchange:
            [step] = _STEP.unpack(
                exchange.broadcast("step", _STEP.pack(self._next_step()) if ranks.rank == 0 else None)
            )
        catalog = self._open_catalog(pg=ranks)
        catalog.save(step, {STATES: _States(states)}, replicated=globs_of(replicated), progress=False)

    def newest(self) -> SavedStates | None:
        """The newest generation that verifies, kept where it is, or in memory, until it is closed.

        With a signing key those that are not signed with it are passed over, with a warning in the log.

        Raises:
            UnsafeObjectError: somebody else has put it there.
            SignatureError: a signing key is set, and none of the generations is signed with it.
        """
        found = self.newest_name()
        return None if found is None else found[1]

    @abstractmethod
    def newest_name(self) -> tuple[str, SavedStates] | None:
        """See `CollectiveCheckpoints`."""

    def named(self, name: str) -> SavedStates:
        for generation in self._catalog.generations():
            if generation.id == name and (states := self._open(generation)) is not None:
                return states
        path = f"{self.where}/{name}"
        raise StorageError(
            errno.ESTALE,
            f"another rank has found the states of the program in {path!r}, which is not to be seen from here: the "
            f"states of several ranks have to be on storage that all of them share. {WAY_OUT}",
            path,
            path=path,
        )

    @abstractmethod
    def _open(self, generation: Generation) -> SavedStates | None:
        """None where it was removed."""

    def _next_step(self) -> int:
        """Counts generations. Other processes may come to the same number, which does not matter."""
        if self._step is None:
            newest = self._catalog.latest()
            self._step = 0 if newest is None else newest.step
        self._step += 1
        return self._step


class PendingStates:
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


class _States:
    """Makes states a stateful that is only ever saved."""

    def __init__(self, states: Mapping[str, FrozenState]) -> None:
        self._states = states

    def state_dict(self) -> dict[str, Any]:
        return {key: to_state_dict(state) for key, state in self._states.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: ARG002 - the interface has it
        raise TypeError("states are read one by one")

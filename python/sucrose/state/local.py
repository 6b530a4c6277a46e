"""States in a local directory: a catalog, each generation a snapshot with all states in it."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from sucrose.catalog import Catalog
from sucrose.catalog.generation import Generation
from sucrose.catalog.pending import PendingGeneration
from sucrose.errors import CorruptionError, UnsafeObjectError
from sucrose.formats.manifest import DictEntry
from sucrose.snapshot.capture import RANK
from sucrose.snapshot.flatten import encode_key
from sucrose.state.settings import CHECKPOINT_CONFIG
from sucrose.state.trust import distrust_of, stranger_in
from sucrose.state.values import FrozenState, from_state_dict, to_state_dict
from sucrose.storage import local_path, make_parents, sync_directories
from sucrose.storage.leases import Lease

logger = logging.getLogger(__name__)

_REFUSED = "states cannot be kept here"
_WAY_OUT = f"{CHECKPOINT_CONFIG}='root=...' chooses another place"
_STATES = "states"
"""The one stateful of these snapshots: a dict from a state's key to its parts."""
_ROOT = f"{RANK}/{_STATES}"
_AT_ONCE_NBYTES = 64 << 20
"""Generations up to this size are read in one go: the digest of a small state is that of 4 MiB around it."""


class LocalCheckpoints:
    """Implements `Checkpoints`. Thread-safe."""

    def __init__(self, root: str, *, keep_last: int | None) -> None:
        """Opens the directory, and makes it where there is none.

        Raises:
            PermissionError: this user may not read and write it.
            OSError: it cannot be made.
        """
        self.where = os.path.abspath(os.path.expanduser(local_path(root)))
        try:
            if changed := make_parents(self.where, 0o700):
                sync_directories(changed)  # else a power cut may take the directory, with all that was saved in it
        except OSError as error:
            raise OSError(error.errno, f"{_REFUSED}: {error.strerror}. {_WAY_OUT}", self.where) from error
        if not os.access(self.where, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{_REFUSED}: no permission to read and write. {_WAY_OUT}", self.where)
        self._catalog = Catalog(self.where, keep_last=keep_last)
        self._step: int | None = None

    def save(self, states: Mapping[str, FrozenState]) -> None:
        self._catalog.save(self._next_step(), {_STATES: _States(states)}, progress=False)

    def begin_save(self, states: Mapping[str, FrozenState]) -> LocalPendingSave:
        began_ns = time.time_ns()
        return LocalPendingSave(self._catalog.async_save(self._next_step(), {_STATES: _States(states)}), began_ns)

    def newest(self) -> LocalStates | None:
        """The newest generation that verifies, kept where it is until it is closed.

        With a signing key those that are not signed with it are passed over, with a warning in the log.

        Raises:
            UnsafeObjectError: somebody else has put it there.
            SignatureError: a signing key is set, and none of the generations is signed with it.
        """
        while (generation := self._catalog.latest(verify=True)) is not None:
            lease = generation.lease()
            if lease is not None:  # not removed between the two lines
                logger.info("states of the program are those of %s", generation.path)
                return LocalStates(generation, lease, self._distrust_of(generation))
        return None

    def _distrust_of(self, generation: Generation) -> str | None:
        """Why pickles of the generation must not run code."""
        if generation.signer is not None:
            return None  # what has no valid signature is not read at all, wherever it lies
        path = generation.path
        reason = distrust_of(self.where)
        if reason is None and (stranger := stranger_in(path)) is not None:
            # Not only its pickles: what is carried along from it would be this user's in the next generation.
            raise UnsafeObjectError(
                f"the states in {path} are not restored: {stranger}, in a directory that only you can write to now. "
                f"If you trust them, copy {path} and put the copy in its place; otherwise move it away.",
                path=path,
            )
        return reason or distrust_of(self.where, generation=path)

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

    def __init__(self, generation: Generation, lease: Lease, distrust: str | None) -> None:
        self._snapshot = generation.snapshot()
        self._lease = lease
        self._is_small = generation.nbytes <= _AT_ONCE_NBYTES
        self._ahead: dict[str, Any] = {}
        """What was read and nobody has asked for yet."""
        self.distrust = distrust

    def keys(self) -> list[str]:
        entry = self._snapshot.metadata.manifest.get(_ROOT)
        if not isinstance(entry, DictEntry):
            raise CorruptionError(f"{self._snapshot.path} holds no states of a program", path=self._snapshot.path)
        return [str(key) for key in entry.keys]

    def read(self, key: str) -> FrozenState:
        path = f"{_ROOT}/{encode_key(key)}"
        if path not in self._snapshot.metadata.manifest:
            raise KeyError(key)
        if self._is_small:
            self._is_small = False
            self._ahead = self._snapshot.read_object(_ROOT)
        state = self._ahead.pop(key, None)  # once: values that are made of it share its memory
        return from_state_dict(self._snapshot.read_object(path) if state is None else state)

    def close(self) -> None:
        self._ahead = {}
        self._lease.release()


class _States:
    """Makes states a stateful that is only ever saved."""

    def __init__(self, states: Mapping[str, FrozenState]) -> None:
        self._states = states

    def state_dict(self) -> dict[str, Any]:
        return {key: to_state_dict(state) for key, state in self._states.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:  # noqa: ARG002 - the interface has it
        raise TypeError("states are read one by one")

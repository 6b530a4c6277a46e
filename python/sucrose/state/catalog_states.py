"""A generation of a catalog as the saved states of a program, of one rank or of several.

In the snapshot they are one stateful: a dict from a state's key to its parts. Each rank has its own, in which states
that are the same on all ranks are replicated values. A rank reads those, and what the rank of the same number has saved
for itself if there were as many ranks then. What a single rank has saved is anybody's.
"""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING, Any

from sucrose.errors import CorruptionError, StateMismatchError
from sucrose.formats.manifest import DictEntry
from sucrose.snapshot.flatten import encode_key
from sucrose.state.collective.job import ranks_of_job
from sucrose.state.values import FrozenState, from_state_dict

if TYPE_CHECKING:
    from collections.abc import Collection

    from sucrose.catalog.generation import Generation, GenerationLease
    from sucrose.formats.manifest import Entry

STATES = "states"
"""The one stateful of these snapshots."""
_AT_ONCE_NBYTES = 64 << 20
"""Generations up to this size are read in one go: the digest of a small state is that of 4 MiB around it."""


def globs_of(keys: Collection[str]) -> list[str]:
    """Globs that match the values of these states, and no others."""
    return [f"{glob.escape(f'{STATES}/{encode_key(key)}')}/*" for key in sorted(keys)]


class CatalogStates:
    """Implements `SavedStates`."""

    def __init__(self, generation: Generation, lease: GenerationLease, distrust: str | None) -> None:
        ranks = ranks_of_job()
        self._snapshot = generation.snapshot()
        self._lease = lease
        metadata = self._snapshot.metadata
        self._entries = metadata.manifest
        self._saved_by = metadata.world_size
        self._world_size = 1 if ranks is None else ranks.world_size
        fits = self._saved_by in (1, self._world_size)
        self._rank = ranks.rank if ranks is not None and fits and self._saved_by > 1 else 0
        self._ranks = [self._rank] if fits else list(range(self._saved_by))
        """Whose states there are for this rank."""
        self._is_small = fits and generation.nbytes <= _AT_ONCE_NBYTES
        self._ahead: dict[str, Any] = {}
        """What was read and nobody has asked for yet."""
        self.distrust = distrust

    def keys(self) -> list[str]:
        keys: dict[str, None] = {}
        for rank in self._ranks:
            entry = self._entries.get(_root(rank))
            if not isinstance(entry, DictEntry):
                raise CorruptionError(f"{self._snapshot.path} holds no states of a program", path=self._snapshot.path)
            keys.update((str(key), None) for key in entry.keys)
        return [*keys]

    def read(self, key: str) -> FrozenState:
        path = f"{_root(self._rank)}/{encode_key(key)}"
        if path not in self._entries and not self._is_of_others(key):
            raise KeyError(key)
        if self._is_small:
            self._is_small = False
            self._ahead = self._snapshot.read_object(_root(self._rank))
        state = self._ahead.pop(key, None)  # once: values that are made of it share its memory
        if state is None:
            self._check_ranks(key)
            state = self._snapshot.read_object(path)
        return from_state_dict(state)

    def close(self) -> None:
        self._ahead = {}
        self._lease.release()

    def _is_of_others(self, key: str) -> bool:
        return any(f"{_root(rank)}/{encode_key(key)}" in self._entries for rank in self._ranks)

    def _check_ranks(self, key: str) -> None:
        """For a state that was saved by another number of ranks."""
        pickle: Entry | None = self._entries.get(f"{_root(0)}/{encode_key(key)}/pickle")
        if len(self._ranks) > 1 and not getattr(pickle, "replicated", False):
            raise StateMismatchError(
                f"the state {key!r} in {self._snapshot.path} was saved per rank, by {self._saved_by} ranks, and now "
                f"{'there is one' if self._world_size == 1 else f'there are {self._world_size}'}: nobody knows whose "
                "it should be. Start as many ranks as then, or register it with auto_load=False and begin it anew",
                path=self._snapshot.path,
                key=key,
            )


def _root(rank: int) -> str:
    return f"{rank}/{STATES}"

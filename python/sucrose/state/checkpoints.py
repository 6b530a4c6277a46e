"""What a place has to offer in which the states of a program are kept.

States are saved in generations. A generation is there with all its states or not at all, and one that
is there stays until a newer one is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from sucrose.errors import UnsupportedError
from sucrose.state.collective.job import ranks_of_job
from sucrose.state.values import FrozenState

if TYPE_CHECKING:
    from sucrose.ranks import Ranks


class PendingSave(Protocol):
    """A generation on its way. Thread-safe."""

    def done(self) -> bool:
        """Whether it is there or has failed."""
        ...

    def wait(self, timeout_s: float | None = None) -> None:
        """Blocks until it is there.

        Raises:
            TimeoutError: that takes longer.
            Exception: what the save has failed with.
        """
        ...

    def took_s(self) -> float:
        """Seconds from the beginning until it was there. Once it is."""
        ...


class SavedStates(Protocol):
    """A generation that is there."""

    @property
    def distrust(self) -> str | None:
        """Why pickles in it must not run code; None: they may."""
        ...

    def keys(self) -> list[str]:
        """Names of its states."""
        ...

    def read(self, key: str) -> FrozenState:
        """One of its states, checked.

        Raises:
            KeyError: it has no such state.
            CorruptionError: the state is damaged.
        """
        ...

    def close(self) -> None:
        """Nothing more will be read; until then no newer generation pushes this one out."""
        ...


class Checkpoints(Protocol):
    """Generations of a program's states."""

    @property
    def where(self) -> str:
        """For messages: a directory or an address."""
        ...

    def save(self, states: Mapping[str, FrozenState]) -> None:
        """Adds a generation, and returns when it is there and durable.

        Raises:
            OSError: it could not be written; earlier ones are untouched.
        """
        ...

    def begin_save(self, states: Mapping[str, FrozenState]) -> PendingSave:
        """Begins to add a generation, and returns when the program may change its tensors again."""
        ...

    def newest(self) -> SavedStates | None:
        """The newest generation that verifies; None where there is none.

        Broken ones are set aside with a warning.
        """
        ...


@runtime_checkable
class CollectiveCheckpoints(Checkpoints, Protocol):
    """Generations in which several ranks have states of their own: there with those of all ranks, or not at all."""

    def save_together(self, states: Mapping[str, FrozenState], ranks: Ranks, replicated: Collection[str]) -> None:
        """Adds a generation with the states of all ranks, which make this call together.

        Args:
            states: of this rank.
            ranks: that take part, in nothing else meanwhile.
            replicated: keys of states that all of them have with the same bytes.

        Raises:
            RankError: another rank has failed; earlier generations are untouched.
            OSError: it could not be written; earlier ones are untouched.
        """
        ...

    def newest_name(self) -> tuple[str, SavedStates] | None:
        """The newest generation that verifies, and what the other ranks find it by; None where there is none."""
        ...

    def named(self, name: str) -> SavedStates:
        """The generation that another rank has found, and keeps.

        Raises:
            StorageError: it is not to be seen from here.
        """
        ...


def save_one(checkpoints: Checkpoints, key: str, state: FrozenState) -> None:
    """Adds a generation that differs from the newest one in a single state.

    Raises:
        UnsupportedError: there are several ranks, which save together.
        CorruptionError: the other states cannot be read any more.
        OSError: it could not be written.
    """
    if ranks_of_job() is not None:
        raise UnsupportedError(
            f"the state {key!r} is not saved by itself: on several ranks StateManagerGroup.save(), which all of them "
            "call, saves all states",
            key=key,
        )
    newest = checkpoints.newest()
    states: dict[str, FrozenState] = {}
    if newest is not None:
        keys = newest.keys()
        states = {other: newest.read(other) for other in keys}
        newest.close()
    checkpoints.save({**states, key: state})

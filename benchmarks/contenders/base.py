"""What a contender is: a way to take a state to storage and back.

The class attributes are read where torch is not loaded, so a contender's module imports nothing
heavy; its constructor does, once, in a process of the contender's own.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from benchmarks.states import State


def already_complete() -> None:
    """Waits for a save that was complete when it returned."""


class Role(str, Enum):
    """How a line counts in the ratios."""

    OURS = "ours"
    PEER = "peer"
    LIMIT = "limit"
    """What the hardware can do: the best of these in a round is the raw limit of that round.

    Where the bytes take several `stage`s one after another, it is the slowest stage's best.
    """
    NOTE = "note"
    """Shown for its own sake; no ratio refers to it."""


class Contender:
    """Saves and loads one state. `path` does not exist before `save`, and its folder does."""

    name: ClassVar[str]
    """The key in results and on the command line."""
    role: ClassVar[Role] = Role.PEER
    distribution: ClassVar[str] = "torch"
    """Whose version is reported."""
    peer: ClassVar[str | None] = None
    """Its folder below `.peers/`, where it has one."""
    stage: ClassVar[str] = ""
    """What a limit is the limit of; means nothing in other roles."""
    durable: ClassVar[bool] = False
    """Whether `save` itself leaves everything fsynced; where not, the harness adds the fsync."""
    note: ClassVar[str] = ""
    """What a reader of the table must know."""

    def prepare(self, state: State) -> None:
        """What has to be there before the first save of `state`, and is not timed."""

    def rank_nbytes(self, path: Path) -> tuple[int, ...]:  # noqa: ARG002
        """Bytes that each rank has written to `path`; none where there is one process."""
        return ()

    def save(self, state: State, path: Path) -> None:
        """Writes `state`. A contender that only loads writes a file that it can load."""
        raise NotImplementedError

    def start(self, state: State, path: Path) -> Callable[[], object]:
        """Starts a save and returns when the content of `state` may be changed.

        What it returns waits until the save is complete. A contender that cannot save in the
        background has nothing to wait for then.
        """
        self.save(state, path)
        return already_complete

    def load(self, state: State, path: Path) -> Mapping[str, Tensor]:
        """Brings back what `save` wrote, into the tensors of `state` or into new ones."""
        raise NotImplementedError


def copy_into(state: State, loaded: Mapping[str, Tensor]) -> State:
    """Copies tensor by tensor, as ``load_state_dict`` does; ends an in-place restore."""
    for name, tensor in state.items():
        tensor.copy_(loaded[name])
    return state

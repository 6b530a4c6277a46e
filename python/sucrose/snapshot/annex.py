"""What a snapshot may carry for whoever keeps many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Annex(Protocol):
    """Small files of a snapshot that have nothing to do with its state, and a word after its commit.

    `make_room` is called by the thread that begins the take, the others by the one that commits; either may be in
    the middle of a signal handler.
    """

    def make_room(self) -> bool:
        """Called where too little space is free, before the take is refused: whether that may have changed now."""
        ...

    def files(self, nbytes: int, bases: Sequence[str]) -> Mapping[str, bytes]:
        """Contents by name, asked for right before the commit; they are digested like all other files.

        Args:
            nbytes: of the snapshot's own files without these.
            bases: paths, from the snapshot, of those that it refers to.
        """
        ...

    def committed(self) -> None:
        """The snapshot is in place, and durable where that was wanted. Must not raise."""
        ...

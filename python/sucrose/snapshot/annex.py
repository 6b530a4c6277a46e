"""What a snapshot may carry for whoever keeps many of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Annex(Protocol):
    """Small files of a snapshot that have nothing to do with its state, and a word after its commit.

    Both methods are called by the thread that commits, which may be in the middle of a signal handler.
    """

    def files(self, nbytes: int) -> Mapping[str, bytes]:
        """Contents by name, asked for right before the commit; they are digested like all other files.

        Args:
            nbytes: of the snapshot's files without these.
        """
        ...

    def committed(self) -> None:
        """The snapshot is in place, and durable where that was wanted. Must not raise."""
        ...

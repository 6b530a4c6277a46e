"""Noticing that two programs write the checkpoints of one scenario: each would take the other's epochs for its own."""

from __future__ import annotations

import logging
from contextlib import suppress

from sucrose.storage.leases import Lease, lease, lease_for_removal

logger = logging.getLogger(__name__)


class FolderClaim:
    """A lease on the folder, from the first write on; it keeps nobody out.

    For one thread, and for signal handlers in it.

    Args:
        folder: of the checkpoints.

    Example:
        >>> import tempfile
        >>> from sucrose.scenarios.checkpoints.claim import FolderClaim
        >>> claim = FolderClaim(tempfile.mkdtemp())
        >>> claim.take()
        >>> claim.release()
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lease: Lease | None = None

    def take(self) -> None:
        """Warns once where another process has a claim; does nothing while there is no folder."""
        if self._lease is not None:
            return
        with suppress(OSError):  # what prevents the write says so itself
            alone = lease_for_removal(self._folder)
            if alone is not None:
                alone.release()
            self._lease = lease(self._folder)
            if alone is None and self._lease is not None:
                logger.warning(
                    "another program writes checkpoints to %s as well: they overwrite each other's epochs. Give one of "
                    "them another scenario",
                    self._folder,
                )

    def release(self) -> None:
        """Nothing is written from here on."""
        held, self._lease = self._lease, None
        if held is not None:
            held.release()

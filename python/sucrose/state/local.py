"""States in a catalog in a local directory."""

from __future__ import annotations

import errno
import logging
import os

from sucrose.catalog.generation import Generation
from sucrose.errors import UnsafeObjectError
from sucrose.state.catalog_checkpoints import REFUSED, WAY_OUT, CatalogCheckpoints
from sucrose.state.catalog_states import CatalogStates
from sucrose.state.trust import distrust_of, stranger_in
from sucrose.storage import local_path, make_parents, sync_directories

logger = logging.getLogger(__name__)


class LocalCheckpoints(CatalogCheckpoints):
    """A directory."""

    def __init__(self, root: str, *, keep_last: int | None) -> None:
        """Opens the directory, and makes it where there is none.

        Raises:
            PermissionError: this user may not read and write it.
            OSError: it cannot be made.
        """
        path = os.path.abspath(os.path.expanduser(local_path(root)))
        try:
            if changed := make_parents(path, 0o700):
                sync_directories(changed)  # else a power cut may take the directory, with all that was saved in it
        except OSError as error:
            raise OSError(error.errno, f"{REFUSED}: {error.strerror}. {WAY_OUT}", path) from error
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, f"{REFUSED}: no permission to read and write. {WAY_OUT}", path)
        super().__init__(path, keep_last=keep_last)

    def newest_name(self) -> tuple[str, CatalogStates] | None:
        while (generation := self._catalog.latest(verify=True)) is not None:
            if (states := self._open(generation)) is not None:  # not removed between the two lines
                return generation.id, states
        return None

    def _open(self, generation: Generation) -> CatalogStates | None:
        """None where it was removed."""
        lease = generation.lease()
        if lease is None:
            return None
        logger.info("states of the program are those of %s", generation.path)
        return CatalogStates(generation, lease, self._distrust_of(generation))

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

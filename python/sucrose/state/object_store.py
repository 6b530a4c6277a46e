"""States in an object store: a catalog at a URL.

1. Nothing there can be kept from being removed, as `keep_last` of another program may do. So a generation is read
   whole when it is found, and what nobody has asked for yet is kept in memory.
2. Whoever can write to the place can put pickles there. So they run code only where they are signed: without a signing
   key tensors, plain values and containers are restored, and anything else is refused.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from sucrose.catalog.newest import found_broken, lease_newest
from sucrose.catalog.opening import open_catalog_directory
from sucrose.errors import CorruptionError, StateMismatchError, SucroseError
from sucrose.formats.signing_keys import SIGNING_KEY
from sucrose.state.catalog_checkpoints import REFUSED, WAY_OUT, CatalogCheckpoints
from sucrose.state.catalog_states import CatalogStates
from sucrose.storage.objects.shared import shared_storage

if TYPE_CHECKING:
    from sucrose.catalog.generation import Generation, GenerationLease
    from sucrose.state.values import FrozenState

logger = logging.getLogger(__name__)

_PROBE = ".states"
"""An empty object beside the generations: whether it can be written tells at the start what else fails at the end."""


@final
class ObjectStoreCheckpoints(CatalogCheckpoints):
    """A folder of an object store.

    Credentials come from the variables and files of the vendor's client, or from `storage_options`.
    """

    def __init__(self, root: str, *, keep_last: int | None, storage_options: Mapping[str, Any] | None = None) -> None:
        """Opens the folder at a URL, and looks whether it may be read and written.

        Raises:
            ConfigError: there is no storage for the URL, or a package is missing.
            PermissionError: these credentials do not allow to read and write there.
            OSError: the store does not answer, or has no such bucket.
        """
        super().__init__(root, keep_last=keep_last, storage_options=storage_options)
        self._directory = open_catalog_directory(root, storage_options=storage_options)
        storage = shared_storage(root, storage_options)
        try:
            next(storage.list(_PROBE), None)
            storage.put(_PROBE, b"")
        except OSError as error:
            number = errno.EACCES if error.errno == errno.EROFS else error.errno or errno.EIO
            raise OSError(number, f"{REFUSED}: {error.strerror}. {WAY_OUT}", self.where) from error
        if self._directory.signer is None:
            logger.warning(
                "states in %s are restored only as far as they are tensors and plain values, as whoever can write "
                "there could put others there, which run code: set %s to have all of them restored",
                self.where,
                SIGNING_KEY,
            )

    def newest_name(self) -> tuple[str, WholeStates] | None:
        passed_over: set[str] = set()
        while (found := lease_newest(self._directory, contents=False, passed_over=passed_over)) is not None:
            generation, lease = found
            try:
                states = self._read(generation, lease)
            except (SucroseError, OSError) as error:
                found_broken(self._directory, generation, lease, error, passed_over)
            else:
                return generation.id, states
        return None

    def _open(self, generation: Generation) -> WholeStates | None:
        lease = generation.lease()
        return None if lease is None else self._read(generation, lease)

    def _read(self, generation: Generation, lease: GenerationLease) -> WholeStates:
        states = CatalogStates(generation, lease, self._distrust_of(generation))
        try:
            keys = states.keys()
        except CorruptionError as error:  # a sound generation, of a catalog that is no program's
            raise CorruptionError(f"{error}. {WAY_OUT}", path=self.where) from error
        logger.info("states of the program are those of %s", generation.path)
        return WholeStates(states, keys)

    def _distrust_of(self, generation: Generation) -> str | None:
        """Why pickles of the generation must not run code."""
        if generation.signer is not None:
            return None  # what has no valid signature is not read at all
        return f"anybody who can write to {self.where} could have put it there: set {SIGNING_KEY} in all its programs"


@final
class WholeStates:
    """Implements `SavedStates`: all that there is for this rank, in memory."""

    def __init__(self, saved: CatalogStates, keys: list[str]) -> None:
        """Reads all states.

        Raises:
            CorruptionError: one of them is damaged.
            OSError: one of them cannot be read, or is gone.
        """
        self.distrust = saved.distrust
        self._saved = saved
        self._keys = keys
        self._unread: dict[str, FrozenState] = {}
        for key in keys:
            try:
                self._unread[key] = saved.read(key)
            except StateMismatchError:  # another rank's: told of where somebody asks for it
                continue

    def keys(self) -> list[str]:
        return [*self._keys]

    def read(self, key: str) -> FrozenState:
        state = self._unread.pop(key, None)  # once: values that are made of it share its memory
        return self._saved.read(key) if state is None else state

    def close(self) -> None:
        self._unread.clear()
        self._saved.close()

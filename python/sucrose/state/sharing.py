"""States that share memory, such as a model and its optimizer under two keys: they will not after a restart."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sucrose.snapshot.tensors import storage_address
from sucrose.state.values import FrozenState

logger = logging.getLogger(__name__)


class SharingWatch:
    """Warns of each pair of states that share memory, once.

    Every state is restored on its own. An optimizer that was saved apart from its model then has copies of
    the parameters, and training goes on without an effect on the model.
    """

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def look_at(self, states: Mapping[str, FrozenState]) -> None:
        """Compares the storages of all states."""
        owners: dict[int, str] = {}
        for key, state in states.items():
            for address in {storage_address(storage) for storage in state.storages if storage.nbytes()}:
                pair = (owners.setdefault(address, key), key)
                if pair[0] != key and pair not in self._told:
                    self._told.add(pair)
                    logger.warning(
                        "the states %r and %r share tensors now, but will not after a restart: make one state of them, "
                        "such as a tuple, if they belong together",
                        *pair,
                    )

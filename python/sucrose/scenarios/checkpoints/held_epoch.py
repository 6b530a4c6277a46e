"""A copy of an epoch's end, for the case that its file is written only when the program leaves."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sucrose.engine.host_memory import free_host_nbytes
from sucrose.scenarios.checkpoints.taken_apart import TakenApart
from sucrose.scenarios.record import Record

logger = logging.getLogger(__name__)


class HeldEpoch:
    """Holds one epoch at a time, in host memory that is used again for the next.

    One thread holds and releases. Signal handlers in the middle of that, and other threads, may ask for what is
    held: they get a complete copy or None, and one that they have asked for is never written over.

    Example:
        >>> import torch
        >>> from sucrose.scenarios.checkpoints import HeldEpoch
        >>> from sucrose.scenarios.record import Record
        >>> record = Record(epoch=1, step=2, is_mid_epoch=False, saved_ns=0, config={}, overrides=(), metrics={},
        ...                 logs={})
        >>> weight, held = torch.ones(2), HeldEpoch()
        >>> held.hold({"weight": weight}, record)
        True
        >>> _ = weight.zero_()
        >>> held.contents
        {'weight': tensor([1., 1.])}
    """

    def __init__(self) -> None:
        self._held: _Copy | None = None
        """Set only when it is complete; what changes it is single assignments."""
        self._spare: list[torch.UntypedStorage] = []
        self._has_warned = False

    def hold(self, contents: Mapping[str, Any], record: Record) -> bool:
        """Copies an epoch's end in the place of the one that was held before.

        Returns:
            False where the copy would take more than half of the host memory that is free. Nothing is held then, and a
            warning says so, once.

        Raises:
            Exception: something in it cannot be copied, as it could not be saved. Nothing is held then.
        """
        self.release()
        parts = TakenApart.of(contents)
        storages = self._allocate([storage.nbytes() for storage in parts.storages])
        if storages is None:
            return False
        for source, copy in zip(parts.storages, storages, strict=True):
            _bytes_of(copy).copy_(_bytes_of(source))
        self._held = _Copy(TakenApart(parts.pickled, storages), record)
        return True

    def release(self) -> None:
        """Forgets the epoch, and keeps its memory for the next one, unless somebody may still read there."""
        held = self._held
        self._held = None
        if held is not None and not held.is_lent:
            self._spare = list(held.parts.storages)

    @property
    def contents(self) -> dict[str, Any] | None:
        """What is held, in tensors on the host; None where nothing is."""
        held = self._lend()
        return None if held is None else held.parts.put_together(_stay)

    @property
    def record(self) -> Record | None:
        """The record that goes with it."""
        held = self._held
        return None if held is None else held.record

    def _lend(self) -> _Copy | None:
        held = self._held
        while held is not None:
            held.is_lent = True
            if self._held is held:  # else another thread may have looked at the mark before it was set
                return held
            held = self._held
        return None

    def _allocate(self, sizes: Sequence[int]) -> list[torch.UntypedStorage] | None:
        spare: defaultdict[int, list[torch.UntypedStorage]] = defaultdict(list)
        for storage in self._spare:
            spare[storage.nbytes()].append(storage)
        kept_nbytes = sum(storage.nbytes() for storage in self._spare)
        self._spare = []
        needed_nbytes, free_nbytes = sum(sizes), free_host_nbytes() + kept_nbytes
        if needed_nbytes > free_nbytes // 2:
            self._warn(needed_nbytes, free_nbytes)
            return None
        return [spare[nbytes].pop() if spare[nbytes] else _new_storage(nbytes) for nbytes in sizes]

    def _warn(self, needed_nbytes: int, free_nbytes: int) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "epochs between two checkpoints are not kept for the end of the program: a copy takes %d bytes, and %d "
                "of host memory are free, of which at most half may go. Save with a smaller interval to lose less",
                needed_nbytes,
                free_nbytes,
            )


class _Copy:
    def __init__(self, parts: TakenApart, record: Record) -> None:
        self.parts = parts
        self.record = record
        self.is_lent = False
        """Somebody may read its storages, perhaps for as long as a save takes."""


def _stay(storage: Any, location: str) -> Any:  # noqa: ARG001 - asked as a map_location
    return storage


def _bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _new_storage(nbytes: int) -> torch.UntypedStorage:
    return torch.UntypedStorage(nbytes, device="cpu")  # type: ignore[no-untyped-call]

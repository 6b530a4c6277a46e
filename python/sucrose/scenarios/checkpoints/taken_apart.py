"""Contents of a checkpoint as a pickle and the storages of its tensors, as in a file of `torch.save`, in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.torch_pickle import StoragePickler
from sucrose.snapshot.torch_unpickle import MapLocation, unpickle


@dataclass(frozen=True, slots=True)
class TakenApart:
    """A value of this very process, so that its pickle may be trusted.

    Attributes:
        pickled: the value without its storages.
        storages: of its tensors, each once, on whatever device; the value's own, not copies.

    Example:
        >>> import torch
        >>> from sucrose.scenarios.checkpoints.taken_apart import TakenApart
        >>> weight = torch.ones(2)
        >>> TakenApart.of({"weight": weight, "tied": weight}).put_together("cpu")
        {'weight': tensor([1., 1.]), 'tied': tensor([1., 1.])}
    """

    pickled: bytes
    storages: Sequence[torch.UntypedStorage]

    @classmethod
    def of(cls, contents: Mapping[str, Any]) -> TakenApart:
        """Takes contents apart; no tensor is copied.

        Raises:
            UnsupportedError: a tensor in it has no bytes.
            Exception: of pickle, where an object in it cannot be pickled.
        """
        buffer = io.BytesIO()
        with collector_paused():
            pickler = StoragePickler(buffer)
            pickler.dump(dict(contents))
        return cls(buffer.getvalue(), pickler.storages)

    def put_together(self, map_location: MapLocation, *, weights_only: bool = False) -> Any:
        """The value around the storages; those that stay where they are are shared with it.

        Raises:
            UnsafeObjectError: `weights_only`, and the value is more than that allows.
        """
        storages = {str(number): storage for number, storage in enumerate(self.storages)}
        with collector_paused():
            return unpickle(self.pickled, storages, map_location, weights_only=weights_only, path="memory")

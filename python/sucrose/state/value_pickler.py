"""Pickles of states: as `torch.save` writes them, and besides NumPy arrays and open files.

Thread-safety: a pickler belongs to one thread.
"""

from __future__ import annotations

import io
import sys
import tempfile
from typing import Any

import torch

from sucrose.errors import UnsupportedError
from sucrose.snapshot.torch_pickle import StoragePickler
from sucrose.state.arrays import reduce_array, reduce_scalar
from sucrose.state.collective.job import ranks_of_job
from sucrose.state.open_files import reduce_file, reduce_temporary


class ValuePickler(StoragePickler):
    """Pickles a value; `storages[i]` is the storage with key ``str(i)``."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.latest: object = None
        """What was looked at last: where pickling fails, this is what could not be pickled."""
        self._own_device = _own_device()

    def persistent_id(self, obj: Any) -> tuple[object, ...] | None:
        """Replaces storages by their keys, and the device that is this rank's own by "the own device"."""
        identity = super().persistent_id(obj)
        if identity is None or self._own_device is None:
            return identity
        tag, kind, key, location, numel = identity
        return (tag, kind, key, _OWN_DEVICE if location == self._own_device else location, numel)

    def reducer_override(self, obj: Any) -> Any:
        """Takes what pickle cannot, or not well, apart in ways of its own."""
        kind = type(obj)
        if kind is torch.Tensor:
            _check_memory(obj)
            return super().reducer_override(obj)
        self.latest = obj
        if isinstance(obj, (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)):
            return reduce_file(obj)
        if isinstance(obj, tempfile._TemporaryFileWrapper):  # noqa: SLF001 - what NamedTemporaryFile returns
            return reduce_temporary(obj)
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            if kind is numpy.ndarray:
                return reduce_array(obj)
            if isinstance(obj, numpy.generic):
                return reduce_scalar(obj)
        return super().reducer_override(obj)


_OWN_DEVICE = "cuda"


def _own_device() -> str | None:
    """On several ranks, of which each has a device: what is equal but for that is the same state. None elsewhere."""
    if ranks_of_job() is None or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # as torch has it
        return None
    return f"cuda:{torch.cuda.current_device()}"


def _check_memory(tensor: torch.Tensor) -> None:
    """Refuses what would be saved without a complaint and could not be restored."""
    is_dense = tensor.layout is torch.strided and not tensor.is_meta
    if is_dense and tensor.numel() > 0 and tensor.untyped_storage().nbytes() == 0:
        raise UnsupportedError(
            f"a tensor of shape {tuple(tensor.shape)} in it has no memory any more, as after resize_(0) of its "
            "storage: save it before that, or gather it first"
        )

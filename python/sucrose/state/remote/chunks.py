"""Between a state and the chunks in which it travels.

A state's bytes are its pickle and then its storages, one after another. They are cut every
`CHUNK_NBYTES`, whatever lies there; only the last chunk is shorter.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import torch

from sucrose.engine.blocks import memory_at
from sucrose.errors import StorageError
from sucrose.snapshot.tensors import storage_address
from sucrose.state.copies import pieces_of
from sucrose.state.remote.record import CHUNK_NBYTES, StateRecord
from sucrose.state.values import FrozenState


def storage_sizes(state: FrozenState) -> list[int]:
    """In bytes."""
    return [storage.nbytes() for storage in state.storages]


def cut(state: FrozenState) -> Iterator[memoryview]:
    """The chunks of a state, each a copy: its digest then fits even if the program changes a tensor meanwhile."""
    left = len(state.pickled) + sum(storage_sizes(state))
    chunk = memoryview(bytearray(min(CHUNK_NBYTES, left)))
    filled = 0
    for piece in pieces_of(state):
        taken = 0
        while taken < len(piece):
            count = min(len(chunk) - filled, len(piece) - taken)
            chunk[filled : filled + count] = piece[taken : taken + count]
            filled += count
            taken += count
            if filled == len(chunk):
                yield chunk
                left -= filled
                chunk = memoryview(bytearray(min(CHUNK_NBYTES, left)))
                filled = 0


class StateBuilder:
    """Puts a state together from its chunks, given in their order.

    Storages are allocated when their first byte is there, so that sizes which are only claimed cost nothing.
    """

    def __init__(self, record: StateRecord, where: str) -> None:
        self._where = where
        self._pickle_left = record.pickle_nbytes
        self._pickled = bytearray()
        self._sizes = iter(record.storage_nbytes)
        self._storages: list[torch.UntypedStorage] = []
        self._filled = 0
        """Bytes of the last storage that are there."""

    def add(self, chunk: bytes) -> None:
        """Takes the next chunk, whose digest was checked.

        Raises:
            StorageError: there is no memory for a storage.
        """
        view = memoryview(chunk)
        count = min(self._pickle_left, len(view))
        self._pickled += view[:count]
        self._pickle_left -= count
        view = view[count:]
        while view:
            if not self._storages or self._filled == self._storages[-1].nbytes():
                self._add_storage()
                continue
            storage = self._storages[-1]
            count = min(storage.nbytes() - self._filled, len(view))
            memory_at(storage_address(storage) + self._filled, count)[:] = view[:count]
            self._filled += count
            view = view[count:]

    def finish(self) -> FrozenState:
        """The state, when all chunks were added."""
        while (nbytes := next(self._sizes, None)) is not None:
            assert nbytes == 0  # the chunks are those of the record
            self._storages.append(_new_storage(0))
        return FrozenState(bytes(self._pickled), tuple(self._storages))

    def _add_storage(self) -> None:
        nbytes = next(self._sizes)
        try:
            self._storages.append(_new_storage(nbytes))
        except (RuntimeError, MemoryError) as error:
            raise StorageError(
                errno.ENOMEM, f"{self._where}: no memory for a tensor of {nbytes} bytes", self._where, path=self._where
            ) from error
        self._filled = 0


def _new_storage(nbytes: int) -> torch.UntypedStorage:
    return torch.UntypedStorage(nbytes)  # type: ignore[no-untyped-call] # as torch has it

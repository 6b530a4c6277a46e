"""The bytes of states, wherever their tensors are."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from sucrose.engine.blocks import memory_at
from sucrose.snapshot.tensors import storage_address
from sucrose.state.values import FrozenState


def private_copy(state: FrozenState) -> FrozenState:
    """The state in host memory that the program cannot change."""
    return FrozenState(state.pickled, tuple([_host_copy(storage) for storage in state.storages]))


def pieces_of(state: FrozenState) -> Iterator[memoryview]:
    """Pickle and storages; a piece is valid until the next is asked for."""
    yield memoryview(state.pickled)
    for storage in state.storages:
        host = storage if _is_on_host(storage) else _host_copy(storage)
        if host.nbytes():
            yield memory_at(storage_address(host), host.nbytes())


def _host_copy(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    copy = storage.clone() if _is_on_host(storage) else storage.cpu()  # type: ignore[no-untyped-call] # as torch has it
    assert isinstance(copy, torch.UntypedStorage)
    return copy


def _is_on_host(storage: torch.UntypedStorage) -> bool:
    return storage.device.type == "cpu"

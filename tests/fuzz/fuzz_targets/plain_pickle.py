"""The interpreter for plain pickles."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import torch

from sucrose.errors import SucroseError
from sucrose.snapshot.plain_pickle import BeyondPlainError, load_plain
from sucrose.snapshot.torch_pickle import StoragePickler


def seeds() -> dict[str, bytes]:
    """Pickles of state dicts."""
    model = torch.nn.Linear(2, 1)
    moments = {number: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)} for number in range(2)}
    optimizer = {"state": moments, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1]}]}
    values = {"module": model.state_dict(), "optimizer": optimizer, "list": [1, -1, 2**70, 0.5, None, ()]}
    return {name: pickled(value) for name, value in values.items()}


def pickled(value: Any) -> bytes:
    """As a file of torch.save has it."""
    file = io.BytesIO()
    StoragePickler(file).dump(value)
    return file.getvalue()


def check(data: bytes) -> None:
    """It is beyond plain, corrupt, or a value."""

    def load_storage(persistent_id: Any) -> torch.TypedStorage:
        _, kind, key, _, numel = persistent_id
        if type(key) is not str or numel > 1000:
            raise BeyondPlainError
        return torch.TypedStorage(wrap_storage=torch.UntypedStorage(64), dtype=kind.dtype, _internal=True)

    with suppress(BeyondPlainError, SucroseError):
        load_plain(data, load_storage)

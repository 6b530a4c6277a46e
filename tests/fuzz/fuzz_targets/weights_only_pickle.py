"""A pickle and storages of a `torch.save` file, with the rules of weights_only."""

from __future__ import annotations

from contextlib import suppress

import torch

from fuzz_targets import plain_pickle
from sucrose.errors import SucroseError
from sucrose.formats.pickle_limits import check_pickle
from sucrose.snapshot.torch_unpickle import unpickle

_SOUND = plain_pickle.pickled([{number: (number,) for number in range(300)}])


def seeds() -> dict[str, bytes]:
    """Values that need the full rules."""
    values = {
        "sparse": torch.eye(2).to_sparse(),
        "set": {1, 2},
        "dtype_device": [torch.float16, torch.device("cpu"), torch.Size([2])],
        "tuple_keys": {(1, 2): {"a": 1j}},
        "float8": torch.zeros(2).to(torch.float8_e5m2),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "bytes": [b"abc", bytearray(b"x")],
    }
    return {name: plain_pickle.pickled(value) for name, value in values.items()}


def check(data: bytes) -> None:
    """No code runs, nothing is allocated by what is claimed, and nothing stays behind that spoils what comes next."""
    check_pickle(_SOUND, "sound")
    storages = {str(number): torch.UntypedStorage(64) for number in range(4)}
    with suppress(SucroseError):
        unpickle(data, storages, "cpu", weights_only=True, path="file")

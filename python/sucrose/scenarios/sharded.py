"""Objects that are spread over ranks, such as FSDP2 modules and their optimizers: no rank has the whole of them.

They are saved as each rank has them and loaded in place, from the snapshot into their own memory. No copy of them is
held between two checkpoints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch

from sucrose.errors import UnsupportedError
from sucrose.snapshot.sharding.value import sharded_value


def sharded_among(objects: Mapping[str, Any]) -> dict[str, Any]:
    """Those that have a parameter which is spread."""
    return {
        name: value
        for name, value in objects.items()
        if any(sharded_value(parameter) is not None for parameter in _parameters_of(value))
    }


def refuse_in_files(sharded: Collection[str]) -> None:
    """For checkpoints that rank 0 writes alone.

    Raises:
        UnsupportedError: some objects are spread.
    """
    if sharded:
        raise UnsupportedError(
            f"{', '.join(map(repr, sharded))}: no rank has all of it, and rank 0 alone writes the checkpoints. Set "
            "ckpts_extension: .snapshot in the domain 'workspace', which all ranks write together"
        )


def _parameters_of(value: object) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.nn.Module):
        return value.parameters()
    if isinstance(value, torch.optim.Optimizer):
        return (parameter for group in value.param_groups for parameter in group["params"])
    return ()

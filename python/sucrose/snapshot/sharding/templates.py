"""Targets for the state of optimizers that have none yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def templates_of(optimizer: torch.optim.Optimizer, path: str) -> dict[str, torch.Tensor]:
    """The DTensors among an optimizer's parameters, by the path of the state that belongs to each.

    Until its first step an optimizer has no state to restore into. What was saved for a parameter that is spread
    over ranks is to be spread in the same way, and not to be put together on every rank.

    Args:
        optimizer: that is to be restored.
        path: of its state dict.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{path}/state/{index}": parameter.detach()
        for index, parameter in enumerate(parameters)
        if any(base.__name__ == "DTensor" for base in type(parameter).__mro__)
    }


def made_like(
    templates: Mapping[str, torch.Tensor], path: str, dtype: torch.dtype | None, shape: Sequence[int]
) -> torch.Tensor | None:
    """A new tensor for the value at `path`, spread like the parameter that it belongs to and has the shape of."""
    template = templates.get(path.rpartition("/")[0])
    if template is None or dtype is None or tuple(template.shape) != tuple(shape):
        return None
    return torch.empty_like(template, dtype=dtype)

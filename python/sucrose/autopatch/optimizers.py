"""The states of optimizers, and of the gradients that wait for their next step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.optim import Optimizer


def optimizer_state(optimizer: Optimizer, *, with_gradients: bool) -> dict[str, Any]:
    """State, settings and gradients.

    Args:
        optimizer: of any class.
        with_gradients: the values matter: they are going to be added to, or stepped along.
    """
    gradients = [parameter.grad for parameter in parameters_of(optimizer)]
    return {
        "state": optimizer.state_dict(),
        # A parameter without a gradient is treated otherwise than one whose gradient is 0.
        "has_gradient": [gradient is not None for gradient in gradients],
        "gradients": gradients if with_gradients else None,
    }


def optimizer_mismatches(key: str, optimizer: Optimizer, saved: Mapping[str, Any]) -> Iterator[str]:
    """What keeps a saved state from being loaded into the optimizer."""
    ours = [len(group["params"]) for group in optimizer.param_groups]
    theirs = [len(group["params"]) for group in saved["state"]["param_groups"]]
    if ours != theirs:
        yield f"{key} has groups of {ours} parameters, the saved one of {theirs}"


def load_optimizer(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Gives the optimizer a saved state, also what it makes lazily in its first step."""
    optimizer.load_state_dict(saved["state"])
    parameters = parameters_of(optimizer)
    for number, state in saved["state"]["state"].items():
        if isinstance(number, int) and number < len(parameters):
            _undo_casts(optimizer.state[parameters[number]], state)
    gradients = saved["gradients"] or [None] * len(parameters)
    for parameter, has_gradient, gradient in zip(parameters, saved["has_gradient"], gradients, strict=True):
        if not has_gradient:
            parameter.grad = None
        elif gradient is None:
            parameter.grad = torch.zeros_like(parameter)
        else:
            parameter.grad = gradient.to(parameter.device)


def parameters_of(optimizer: Optimizer) -> list[torch.Tensor]:
    """All parameters, in the order in which the optimizer's state counts them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _undo_casts(state: Any, saved: Any) -> None:
    """Puts tensors back that `load_state_dict` has cast to their parameter's dtype, such as float32 ones."""
    if not isinstance(state, dict) or not isinstance(saved, dict):
        return
    for name, value in saved.items():
        ours = state.get(name)
        if isinstance(value, torch.Tensor) and isinstance(ours, torch.Tensor) and ours.dtype != value.dtype:
            state[name] = value.to(ours.device)
        elif isinstance(value, dict):
            _undo_casts(ours, value)

"""The states of the modules of a program."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from sucrose.autopatch.registry import Registry


def roots(registry: Registry) -> dict[str, nn.Module]:
    """Modules that are part of no other living one, by name."""
    living = registry.living()
    inner = {id(child) for module in living.values() for child in module.children()}
    return {key: module for key, module in living.items() if id(module) not in inner}


def module_states(registry: Registry, trained: Container[int]) -> dict[str, Any]:
    """The states of all roots that have one.

    Args:
        registry: of modules.
        trained: identities of the parameters that optimizers have.
    """
    states = {}
    for key, module in roots(registry).items():
        state = module.state_dict()
        if state:
            metadata = getattr(state, "_metadata", {})
            states[key] = {
                "state": dict(state),
                "metadata": {name: dict(data) for name, data in metadata.items()},
                "is_trained": any(id(parameter) in trained for parameter in module.parameters()),
            }
    return states


def module_mismatches(key: str, module: nn.Module, saved: Mapping[str, Any]) -> Iterator[str]:
    """What keeps a saved state from being loaded into the module."""
    theirs, ours = saved["state"], module.state_dict()
    for name in ours.keys() - theirs.keys():
        yield f"{key} has {name!r}, the saved state has not"
    for name in theirs.keys() - ours.keys():
        yield f"the saved state of {key} has {name!r}, the program's has not"
    for name in ours.keys() & theirs.keys():
        one, other = ours[name], theirs[name]
        if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and not is_lazy(one):
            if one.shape != other.shape:
                yield f"{key}.{name} has the shape {tuple(one.shape)}, the saved one {tuple(other.shape)}"
            elif one.dtype != other.dtype:
                yield f"{key}.{name} is of {one.dtype}, the saved one of {other.dtype}"


def load_module(module: nn.Module, saved: Mapping[str, Any]) -> None:
    """Copies a saved state into the tensors of the module."""
    state = OrderedDict(saved["state"])
    state._metadata = OrderedDict(saved["metadata"])  # type: ignore[attr-defined]  # noqa: SLF001 - torch keeps versions there
    module.load_state_dict(state)


def fingerprint(registry: Registry) -> object:
    """Differs where a tensor of a root was changed in place or replaced, and where that cannot be told."""
    versions = 0
    for module in roots(registry).values():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_inference():
                return object()  # equal to nothing
            versions += tensor._version + id(tensor)  # noqa: SLF001 - torch's own counter of changes in place
    return versions

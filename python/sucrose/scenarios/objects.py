"""The objects of a program as they lie in a checkpoint: by their state where they have one, else as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from sucrose.errors import StateMismatchError

OWN_KEY = "sucrose"
"""Names what a checkpoint needs besides the program's objects."""


def has_state(value: object) -> bool:
    """Whether an object is stored by its state."""
    return callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None))


def states_of(objects: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored of each object. Tensors are the objects' own, not copies."""
    return {name: value.state_dict() if has_state(value) else value for name, value in objects.items()}


def holds_tensors(value: object) -> bool:
    """Whether there are tensors in plain containers, as in the state of a model or an optimizer."""
    if isinstance(value, Mapping):
        return any(map(holds_tensors, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(holds_tensors, value))
    return isinstance(value, torch.Tensor)


def check_names(names: Iterable[str], reserved: Iterable[str]) -> None:
    """Refuses names that mean something else in a checkpoint.

    Raises:
        ValueError: one of them does.
    """
    for name in sorted(set(names) & set(reserved)):
        raise ValueError(f"{name!r} is no name for an object: the checkpoint keeps something else under it; rename it")


def check_loadable(objects: Mapping[str, Any], contents: Mapping[str, Any], path: str) -> None:
    """Says whether all objects can take their states, before the first one does.

    Raises:
        TypeError: an object has no `load_state_dict`.
        StateMismatchError: the checkpoint has no such object, or the state of another model or optimizer.
    """
    for name, value in objects.items():
        if not callable(getattr(value, "load_state_dict", None)):
            raise TypeError(
                f"{name}={type(value).__name__} has no load_state_dict. Values that were stored as they are come back "
                f"in the dict that is returned: leave {name!r} out."
            )
        if name not in contents:
            there = ", ".join(map(repr, contents)) or "nothing"
            raise StateMismatchError(f"{path} has no {name!r}, only {there}", path=path, key=name)
        problem = _mismatch(value, contents[name])
        if problem:
            raise StateMismatchError(
                f"{name!r} in {path} is of another {type(value).__name__}: {problem}. Nothing was loaded.",
                path=path,
                key=name,
            )


def _mismatch(value: object, state: Any) -> str | None:
    if isinstance(value, torch.nn.Module):
        return _module_mismatch(value, state) if isinstance(state, Mapping) else f"a {type(state).__name__}, no dict"
    if isinstance(value, torch.optim.Optimizer):
        return _optimizer_mismatch(value, state)
    return None


def _module_mismatch(module: torch.nn.Module, state: Mapping[str, Any]) -> str | None:
    """Parts of a module that load in a way of their own are left to them."""
    own_ways = tuple(f"{name}." if name else "" for name, part in module.named_modules() if _loads_in_its_own_way(part))
    present = module.state_dict()
    for key in (*present, *state):
        if key.startswith(own_ways):
            continue
        if key not in state:
            if key.endswith("num_batches_tracked"):  # as in files of torch before 0.4.1
                continue
            return f"{key!r} is missing there"
        if key not in present:
            return f"{key!r} is not known here"
        there, here = state[key], present[key]
        if isinstance(there, torch.Tensor) and isinstance(here, torch.Tensor) and there.shape != here.shape:
            return f"{key!r} has shape {tuple(there.shape)} there and {tuple(here.shape)} here"
    return None


def _loads_in_its_own_way(part: torch.nn.Module) -> bool:
    kind, plain = type(part), torch.nn.Module
    is_norm = isinstance(part, torch.nn.modules.batchnorm._NormBase)  # noqa: SLF001 - adds what old files lack, no more
    return (
        (kind._load_from_state_dict is not plain._load_from_state_dict and not is_norm)  # noqa: SLF001 - overridden
        or kind.load_state_dict is not plain.load_state_dict
        or kind.state_dict is not plain.state_dict
        or bool(part._load_state_dict_pre_hooks)  # noqa: SLF001 - torch has no other way to ask
    )


def _optimizer_mismatch(optimizer: torch.optim.Optimizer, state: Any) -> str | None:
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    if not isinstance(groups, list):
        return None  # an optimizer with a state of its own kind
    here, there = len(optimizer.param_groups), len(groups)
    if here != there:
        return f"{there} parameter groups there, {here} here"
    for number, (ours, saved) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
        if len(ours["params"]) != len(saved["params"]):
            return f"group {number} has {len(saved['params'])} parameters there, {len(ours['params'])} here"
    return None

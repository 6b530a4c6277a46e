"""What several ranks have alike of the objects in a checkpoint: it is stored once, and any number of ranks loads it."""

from __future__ import annotations

import glob
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sucrose.scenarios.objects import OWN_KEY, holds_tensors
from sucrose.scenarios.sharded import sharded_among
from sucrose.snapshot.flatten import encode_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicated:
    """Of one checkpoint.

    Attributes:
        modules: those that `DistributedDataParallel` keeps alike, by name.
        globs: of paths in the snapshot, as for `Snapshot.take`.
        sharded: names of objects that are spread over the ranks.
    """

    modules: Mapping[str, torch.nn.Module] = field(default_factory=dict)
    globs: tuple[str, ...] = ()
    sharded: frozenset[str] = frozenset()


def find_replicated(
    objects: Mapping[str, Any], contents: Mapping[str, Any], own: Collection[str], globs: Collection[str]
) -> Replicated:
    """What is alike for sure: modules in DDP, their optimizers, and values that can be compared, without tensors.

    Args:
        objects: of the program, by name.
        contents: what is stored of them, and of others.
        own: names of what is each rank's own, such as loaders.
        globs: what the user says.
    """
    modules = {
        name: value for name, value in objects.items() if isinstance(value, torch.nn.parallel.DistributedDataParallel)
    }
    alike = {name for name, value in objects.items() if _is_optimizer_of(value, modules.values())}
    alike |= {name for name, value in contents.items() if name not in own and not holds_tensors(value)}
    alike -= {OWN_KEY}
    paths = [pattern for name in sorted(alike) for pattern in _all_of(encode_key(name))]
    sharded = sharded_among(objects)
    for name, value in sharded.items():
        if isinstance(value, torch.optim.Optimizer):
            path = glob.escape(encode_key(name))
            paths += [f"{path}/state/*/step", f"{path}/param_groups/**"]
    return Replicated(
        modules=modules,
        globs=(*paths, *_all_of(f"{OWN_KEY}/tracked"), f"{OWN_KEY}/in_loop", *sorted(set(globs))),
        sharded=frozenset(sharded),
    )


def _is_optimizer_of(value: object, modules: Collection[Any]) -> bool:
    """Whether it steps parameters of DDP modules only, with the same gradients on all ranks."""
    if not isinstance(value, torch.optim.Optimizer) or hasattr(value, "consolidate_state_dict"):
        return False  # those that can be consolidated have a shard of the state on each rank
    alike = {
        parameter
        for module in modules
        for name, parameter in module.module.named_parameters()
        if name not in module.parameters_to_ignore
    }
    return bool(alike) and all(parameter in alike for group in value.param_groups for parameter in group["params"])


def _all_of(path: str) -> list[str]:
    return [glob.escape(path), f"{glob.escape(path)}/**"]

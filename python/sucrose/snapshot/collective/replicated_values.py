"""Which of a rank's values are said to be the same on all ranks: by globs, and in DistributedDataParallel modules."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from sucrose.formats.manifest import PrimitiveEntry
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.objects import dump_object
from sucrose.snapshot.rng_state import RNGState
from sucrose.snapshot.tricks.ddp import DistributedDataParallelAdapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sucrose.engine import Engine
    from sucrose.snapshot.capture import CapturedState


class ReplicatedValue(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What ranks compare of a value.

    Tensors' contents are not among it: to read them all would take as long as to save them.
    """

    path: str
    """Without the rank."""
    kind: str
    shape: tuple[int, ...] = ()
    nbytes: int = 0
    """As it is stored; 0 for what stands in the manifest."""
    tied_to: str = ""
    """Another replicated tensor with the same bytes."""
    digest: bytes = b""
    """Of primitives, objects and states of generators."""
    is_of_rank_0: bool = False
    """Only rank 0's counts: DistributedDataParallel sends buffers from there."""


@dataclass(frozen=True, slots=True)
class _DdpModule:
    """What of a module's state its ranks keep alike."""

    ignored: frozenset[str]
    parameters: frozenset[str]


def replicated_values(
    captured: CapturedState,
    app_state: Mapping[str, Any],
    globs: Sequence[str],
    engine: Engine,
    global_ranks: Sequence[int] = (),
) -> dict[str, ReplicatedValue]:
    """The replicated ones among all values but those that are spread over ranks, by path without the rank.

    Modules whose DistributedDataParallel does not reach all of `global_ranks` count as any other.
    """
    modules = {
        f"{encode_key(key)}/": found for key, value in app_state.items() if (found := _ddp_module(value, global_ranks))
    }
    if not globs and not modules:
        return {}
    is_replicated = _matcher(globs, modules)
    prefix = len(f"{captured.rank}/")
    chosen = [path for path in _leaves(captured) if is_replicated(path[prefix:])]
    generators = tuple(f"{encode_key(key)}/" for key, value in app_state.items() if isinstance(value, RNGState))
    objects = dict(captured.flat.objects)
    roots: dict[str, str] = {}  # of tied tensors: the first of them that is replicated
    values = {}
    for full in chosen:
        path = full[prefix:]
        value = _described(captured, full, path, objects, roots, engine)
        if generators and path.startswith(generators):
            value = msgspec.structs.replace(value, digest=_content_digest(captured, full, engine))
        if _is_buffer(path, modules):
            value = msgspec.structs.replace(value, is_of_rank_0=True)
        values[path] = value
    return dict(sorted(values.items()))


def _ddp_module(stateful: Any, global_ranks: Sequence[int]) -> _DdpModule | None:
    is_adapter = isinstance(stateful, DistributedDataParallelAdapter)
    module = stateful.distributed_data_parallel if is_adapter else getattr(stateful, "stands_for", stateful)
    if not isinstance(module, torch.nn.parallel.DistributedDataParallel):
        return None
    if not set(torch.distributed.get_process_group_ranks(module.process_group)).issuperset(global_ranks):
        return None
    prefix = "" if is_adapter else "module."
    ignored = frozenset(prefix + name for name in module.parameters_to_ignore)
    return _DdpModule(ignored, frozenset(prefix + name for name, _ in module.module.named_parameters()))


def _matcher(globs: Sequence[str], modules: Mapping[str, _DdpModule]) -> Callable[[str], bool]:
    pattern = re.compile("|".join(f"(?:{fnmatch.translate(glob)})" for glob in globs)) if globs else None

    def is_replicated(path: str) -> bool:
        if pattern is not None and pattern.match(path):
            return True
        key, separator, name = path.partition("/")
        module = modules.get(key + separator)
        return module is not None and name not in module.ignored

    return is_replicated


def _is_buffer(path: str, modules: Mapping[str, _DdpModule]) -> bool:
    key, separator, name = path.partition("/")
    module = modules.get(key + separator)
    return module is not None and name not in module.parameters


def _leaves(captured: CapturedState) -> Iterable[str]:
    shards = {name for names in captured.shard_names.values() for name in names}
    yield from (path for path in captured.dense if path not in shards)
    yield from (path for path in captured.pickled_tensors if path not in shards)
    yield from (path for path, _ in captured.flat.objects)
    yield from (path for path, entry in captured.flat.entries.items() if isinstance(entry, PrimitiveEntry))


def _described(
    captured: CapturedState, full: str, path: str, objects: Mapping[str, Any], roots: dict[str, str], engine: Engine
) -> ReplicatedValue:
    memory = captured.dense.get(full)
    if memory is not None:
        root = roots.setdefault(captured.aliases.get(full, full), path)
        tied_to = "" if root == path else root
        return ReplicatedValue(path, str(memory.dtype), tuple(memory.tensor.shape), memory.nbytes, tied_to)
    tensor = captured.pickled_tensors.get(full)
    if tensor is not None:
        return ReplicatedValue(path, f"pickled {tensor.dtype}", tuple(tensor.shape), tensor.nbytes)
    entry = captured.flat.entries.get(full)
    if isinstance(entry, PrimitiveEntry):
        return ReplicatedValue(path, entry.type, digest=engine.digest(entry.serialized_value.encode()))
    data = captured.dumped[full] = dump_object(objects[full], full)
    return ReplicatedValue(path, type(objects[full]).__qualname__, nbytes=len(data), digest=engine.digest(data))


def _content_digest(captured: CapturedState, full: str, engine: Engine) -> bytes:
    """Whoever draws from the wrong generator does not notice: these few bytes are compared."""
    memory = captured.dense.get(full)
    if memory is None:
        entry = captured.flat.entries.get(full)
        return engine.digest(entry.serialized_value.encode()) if isinstance(entry, PrimitiveEntry) else b""
    return engine.digest(memory.tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())

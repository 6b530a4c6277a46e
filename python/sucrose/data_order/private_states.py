"""Generators and counters that a loader's samplers and data set keep to themselves.

A sampler may draw from a generator of its own, or seed one by the number of passes that it has counted. Such
attributes are found in the objects themselves: generators of torch, Python and NumPy, and plain values
that have changed since the loader was tracked. What has not changed is how the program has made it,
and is left as the next run makes it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from sucrose.data_order.random_states import python_from_state, python_to_state, with_arrays, without_arrays

_PLAIN = (bool, int, float, str)
_MAX_DEPTH = 8  # data sets that wrap each other


class PrivateStates:
    """Looks into one loader.

    Args:
        loader: as it is before its first pass.
    """

    def __init__(self, loader: Any) -> None:
        self._at_first = dict(_plain_values(loader))

    def capture(self, loader: Any) -> dict[str, Any]:
        """What generators and counters hold, as tensors and plain values."""
        states: dict[str, Any] = {}
        for key, value in _plain_values(loader):
            if key not in self._at_first or self._at_first[key] != value:
                states[key] = {"value": value}
        for key, owner, name in _attributes(loader):
            state = _generator_state(vars(owner)[name])
            if state is not None:
                states[key] = state
        return states

    def apply(self, loader: Any, states: Mapping[str, Any]) -> None:
        """Gives back what was captured; what is not there any more is passed over."""
        for key, owner, name in _attributes(loader):
            state = states.get(key)
            if state is None:
                if key in self._at_first and _is_plain(vars(owner)[name]):
                    vars(owner)[name] = self._at_first[key]
            elif "value" in state:
                vars(owner)[name] = state["value"]
            else:
                _set_generator(vars(owner)[name], state)


def _owners(loader: Any) -> Iterator[tuple[str, Any]]:
    batch_sampler = getattr(loader, "batch_sampler", None)
    yield "sampler", getattr(loader, "sampler", None)
    yield "batch_sampler", batch_sampler
    yield "inner_sampler", getattr(batch_sampler, "sampler", None)
    dataset = getattr(loader, "dataset", None)
    for depth in range(_MAX_DEPTH):
        yield f"dataset{depth or ''}", dataset
        dataset = getattr(dataset, "dataset", None)


def _attributes(loader: Any) -> Iterator[tuple[str, Any, str]]:
    """Key, object and name of each attribute; objects that have several roles, once."""
    seen: set[int] = set()
    for role, owner in _owners(loader):
        if owner is None or id(owner) in seen or not hasattr(owner, "__dict__"):
            continue
        seen.add(id(owner))
        for name in [*vars(owner)]:
            yield f"{role}.{name}", owner, name


def _plain_values(loader: Any) -> Iterator[tuple[str, Any]]:
    for key, owner, name in _attributes(loader):
        if _is_plain(value := vars(owner)[name]):
            yield key, value


def _is_plain(value: object) -> bool:
    return value is None or type(value) in _PLAIN


def _generator_state(generator: Any) -> dict[str, Any] | None:
    """None where it is no generator."""
    if isinstance(generator, torch.Generator):
        return {"torch": generator.get_state()}
    if isinstance(generator, random.Random) and not isinstance(generator, random.SystemRandom):
        return {"python": python_to_state(generator.getstate())}
    bits = _numpy_bits(generator)
    return None if bits is None else {"numpy": without_arrays(bits.state)}


def _set_generator(generator: Any, state: Mapping[str, Any]) -> None:
    if "torch" in state and isinstance(generator, torch.Generator):
        generator.set_state(state["torch"])
    elif "python" in state and isinstance(generator, random.Random):
        generator.setstate(python_from_state(state["python"]))
    elif "numpy" in state and (bits := _numpy_bits(generator)) is not None:
        bits.state = with_arrays(state["numpy"])


def _numpy_bits(generator: Any) -> Any:
    """The source of a `numpy.random.Generator` or `RandomState`; None for other objects."""
    if not type(generator).__module__.startswith("numpy.random"):
        return None
    return getattr(generator, "bit_generator", None) or getattr(generator, "_bit_generator", None)

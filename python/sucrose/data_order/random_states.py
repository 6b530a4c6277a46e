"""The states of random number generators, taken cheaply and restored exactly.

`capture` is called before every batch, so it only copies; `to_state` turns a capture into tensors and
plain numbers, which can be restored without running a pickle.
"""

from __future__ import annotations

import ctypes
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

_MT19937_NBYTES = 624 * 4 + 4  # the words and the place among them


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomStates:
    """Global generators, and those that the program has given to loaders and samplers."""

    cpu: torch.Tensor
    python: tuple[Any, ...]
    numpy: dict[str, Any] | None
    """None where `numpy.random` was not imported."""
    cuda: list[torch.Tensor]
    generators: dict[str, torch.Tensor]
    """By the names that `capture` was given."""

    @classmethod
    def capture(cls, generators: Mapping[str, torch.Generator]) -> RandomStates:
        """The states as they are now."""
        in_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]  # torch
        return cls(
            cpu=torch.get_rng_state(),
            python=random.getstate(),
            numpy=_numpy_state(),
            cuda=torch.cuda.get_rng_state_all() if in_cuda else [],
            generators={name: generator.get_state() for name, generator in generators.items()},
        )

    def apply(self, generators: Mapping[str, torch.Generator]) -> None:
        """Sets the generators; those of `generators` that were not captured keep their states."""
        torch.set_rng_state(self.cpu)
        random.setstate(self.python)
        if self.numpy is not None:
            import numpy

            numpy.random.set_state(self.numpy)
        if self.cuda and torch.cuda.is_available():
            for device, state in enumerate(self.cuda[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)
        for name, state in self.generators.items():
            if name in generators:
                generators[name].set_state(state)

    def to_state(self) -> dict[str, Any]:
        """Tensors and plain numbers only."""
        return {
            "cpu": self.cpu,
            "python": python_to_state(self.python),
            "numpy": None if self.numpy is None else without_arrays(self.numpy),
            "cuda": self.cuda,
            "generators": self.generators,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> RandomStates:
        """The inverse of `to_state`."""
        return cls(
            cpu=state["cpu"],
            python=python_from_state(state["python"]),
            numpy=None if state["numpy"] is None else with_arrays(state["numpy"]),
            cuda=state["cuda"],
            generators=state["generators"],
        )


def generators_of(key: str, loader: Any) -> Iterable[tuple[str, torch.Generator]]:
    """Generators that a loader and its samplers draw from, with names that are the same in each run."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = {
        "loader": loader,
        "sampler": getattr(loader, "sampler", None),
        "batch_sampler": batch_sampler,
        "inner_sampler": getattr(batch_sampler, "sampler", None),
    }
    for name, owner in owners.items():
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            yield f"{key}/{name}", generator


class _LastNumpy:
    memory = b""
    state: dict[str, Any] | None = None


def _numpy_state() -> dict[str, Any] | None:
    """The state of NumPy's global generator; asking for it takes long, and most programs leave it as it is."""
    if "numpy" not in sys.modules:
        return None
    import numpy.random  # which NumPy itself imports and seeds only when it is first used

    generator = getattr(numpy.random, "get_bit_generator", lambda: None)()
    if generator is None or type(generator).__name__ != "MT19937":
        return numpy.random.get_state(legacy=False)
    memory = ctypes.string_at(generator.ctypes.state_address, _MT19937_NBYTES)
    if memory != _LastNumpy.memory or _LastNumpy.state is None:
        _LastNumpy.state = numpy.random.get_state(legacy=False)
        _LastNumpy.memory = memory
    return _LastNumpy.state


def python_to_state(state: tuple[Any, ...]) -> list[Any]:
    """What `random.Random.getstate` gives, as a tensor and plain numbers."""
    version, words, gauss_next = state
    return [version, torch.tensor(words, dtype=torch.int64), gauss_next]


def python_from_state(state: Sequence[Any]) -> tuple[Any, ...]:
    """The inverse of `python_to_state`."""
    version, words, gauss_next = state
    return version, tuple(words.tolist()), gauss_next


def without_arrays(state: Any) -> Any:
    """What a NumPy generator calls its state, as tensors and plain values."""
    if isinstance(state, dict):
        return {key: without_arrays(value) for key, value in state.items()}
    if hasattr(state, "astype"):
        # The words of all of NumPy's bit generators are unsigned; as int64 every torch can read them.
        return {"dtype": str(state.dtype), "words": torch.from_numpy(state.astype("int64"))}
    return state.item() if hasattr(state, "item") else state


def with_arrays(state: Any) -> Any:
    """The inverse of `without_arrays`."""
    if not isinstance(state, dict):
        return state
    if state.keys() == {"dtype", "words"}:
        return state["words"].numpy().astype(state["dtype"])
    return {key: with_arrays(value) for key, value in state.items()}

"""Everything in a program that learns: what of it is saved, and how it gets that back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from sucrose.autopatch.matching import match
from sucrose.autopatch.modules import fingerprint, load_module, module_mismatches, module_states, roots
from sucrose.autopatch.optimizers import load_optimizer, optimizer_mismatches, optimizer_state, parameters_of
from sucrose.autopatch.registry import Registry
from sucrose.data_order.random_states import RandomStates, generators_of

_LISTED = 5  # mismatches in a message


class Objects:
    """The objects of the program, by kind and name."""

    def __init__(self) -> None:
        self.modules = Registry()
        self.optimizers = Registry()
        self.schedulers = Registry()
        self.scalers = Registry()
        self.loaders = Registry()
        self._roots: list[str] = []
        self._seen_modules = 0
        self._generators: dict[str, torch.Generator] = {}
        self._held: tuple[Any, ...] = ()

    def hold(self) -> None:
        """Keeps what lives now alive until the next call.

        A program whose objects are variables of a function drops them before its end, and so before they are saved.
        What it has dropped before this call is let go.
        """
        self._held = ()
        if self._seen_modules != self.modules.count:
            self._seen_modules = self.modules.count
            self._roots = [*roots(self.modules)]
        self._generators = dict(self._find_generators())
        self._keep()

    def _keep(self) -> None:
        self._held = ()
        registries = (self.optimizers, self.schedulers, self.scalers, self.loaders)
        modules = map(self.modules.get, self._roots)
        self._held = (*modules, *(one for registry in registries for one in registry.living().values()))

    def hold_less(self) -> None:
        """Lets go of what the program has dropped since the last `hold`: it makes something new, which takes memory."""
        if self._held:
            self._keep()

    def states(self, *, needs_gradients: Callable[[str], bool]) -> dict[str, dict[str, Any]]:
        """What is to be saved.

        Args:
            needs_gradients: whether the values of the gradients matter, for the name of an optimizer.
        """
        optimizers = self.optimizers.living()
        trained = {id(parameter) for optimizer in optimizers.values() for parameter in parameters_of(optimizer)}
        return {
            "modules": module_states(self.modules, trained),
            "optimizers": {
                key: optimizer_state(optimizer, with_gradients=needs_gradients(key))
                for key, optimizer in optimizers.items()
            },
            "schedulers": {key: one.state_dict() for key, one in self.schedulers.living().items()},
            "scalers": {key: one.state_dict() for key, one in self.scalers.living().items()},
        }

    def mismatches(self, saved: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """What keeps a saved state from being loaded; nothing is changed."""
        return [line for kind, states in saved.items() for line in self._mismatches_of(kind, states)]

    def missing(self, saved: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether the program has not made all yet for which there is a saved state."""
        return any(not self.of_kind(kind).was_made(key) for kind, states in saved.items() for key in states)

    def of_kind(self, kind: str) -> Registry:
        """The registry of ``"modules"``, for example."""
        registry: Registry = getattr(self, kind)
        return registry

    def load(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Gives all objects their saved states, in place. After `mismatches` has found nothing."""
        self.load_modules(saved["modules"])
        for key, scheduler in _pairs(self.schedulers, saved["schedulers"]):
            scheduler.load_state_dict(copy.deepcopy(saved["schedulers"][key]))
        for key, optimizer in _pairs(self.optimizers, saved["optimizers"]):
            load_optimizer(optimizer, saved["optimizers"][key])
        for key, scaler in _pairs(self.scalers, saved["scalers"]):
            scaler.load_state_dict(saved["scalers"][key])
            unscaled = getattr(scaler, "_per_optimizer_states", None)
            if unscaled is not None:  # what it knows of gradients that are not there any more
                unscaled.clear()

    def load_modules(self, saved: Mapping[str, Any]) -> None:
        """Gives those modules their saved states that are there and fit."""
        living = self.modules.living()
        for key, ours in self._matching_modules(saved).items():
            if not any(module_mismatches(key, living[ours], saved[key])):
                load_module(living[ours], saved[key])

    def fingerprint(self) -> object:
        """Differs where a module has changed."""
        return fingerprint(self.modules)

    @property
    def generators(self) -> dict[str, torch.Generator]:
        """Those that the program has given to its loaders and their samplers, as of the last `hold`."""
        return self._generators

    def capture_random(self) -> RandomStates:
        """The states of all generators."""
        return RandomStates.capture(self._generators)

    def _find_generators(self) -> Iterator[tuple[str, torch.Generator]]:
        for key, loader in self.loaders.living().items():
            yield from generators_of(key, loader)

    def _mismatches_of(self, kind: str, states: Mapping[str, Any]) -> Iterator[str]:
        registry = self.of_kind(kind)
        names = self._matching_modules(states) if kind == "modules" else {}
        for key, state in states.items():
            one = registry.get(names.get(key, key))
            if one is None:
                # One that was made may be gone again: when garbage is collected differs from run to run.
                if not registry.was_made(key) and state.get("is_trained", True):
                    yield f"{key} of the saved state was not made"
            elif kind == "modules":
                yield from module_mismatches(key, one, state)
            elif kind == "optimizers":
                yield from optimizer_mismatches(key, one, state)

    def _matching_modules(self, saved: Iterable[str]) -> dict[str, str]:
        return match(saved, self.modules.living(), roots(self.modules).__contains__)


def shorten(mismatches: list[str]) -> str:
    """The first few, for a message."""
    more = len(mismatches) - _LISTED
    return "; ".join(mismatches[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _pairs(registry: Registry, saved: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    living = registry.living()
    return ((key, living[key]) for key in saved if key in living)

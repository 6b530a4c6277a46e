"""From a checkpoint back into the program's objects.

1. The newest checkpoint that is whole is read, or the one that was asked for.
2. Its configuration is compared with the scenario's.
3. Every object is checked against its state; then each takes it.
4. Random number generators get their states, once more when the first epoch begins: what the program drew in
   between, the uninterrupted one did not draw. Loaders that are tracked later find theirs here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sucrose.data_order import RandomStates
from sucrose.scenarios.checkpoints import Loaded
from sucrose.scenarios.objects import OWN_KEY, check_loadable, has_state

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Resumption:
    """What was loaded, and what of it has not found its place yet."""

    loaded: Loaded
    random: RandomStates | None
    """None where the checkpoint has none, or the first epoch has begun."""
    unclaimed: dict[str, Any] = field(default_factory=dict)
    """States of objects that the earlier run has tracked, and this one not yet."""

    @classmethod
    def begin(
        cls, loaded: Loaded, objects: Mapping[str, Any], tracked: Mapping[str, Any], *, loads_random: bool
    ) -> tuple[Resumption, dict[str, Any]]:
        """Steps 3 and 4. Also returns what nobody has asked for.

        Raises:
            TypeError: an object cannot load anything.
            StateMismatchError: an object is not there, or its state does not fit.
        """
        left = dict(loaded.contents)
        own = left.pop(OWN_KEY, None)
        own = own if isinstance(own, Mapping) else {}
        wanted = {**{name: value for name, value in tracked.items() if name in left}, **objects}
        check_loadable(wanted, left, loaded.path)
        for name, value in wanted.items():
            value.load_state_dict(left.pop(name))
        saved = own.get("random") if loads_random else None
        resumption = cls(
            loaded=loaded,
            random=None if saved is None else RandomStates.from_state(_on_host(saved)),
            unclaimed={name: left.pop(name) for name in own.get("tracked", ()) if name in left},
        )
        resumption.apply_random()
        return resumption, left

    def claim(self, name: str, value: Any) -> None:
        """An object is tracked from here on: it gets the state that waits for it.

        Raises:
            StateMismatchError: the state does not fit.
        """
        if name in self.unclaimed and has_state(value):
            check_loadable({name: value}, self.unclaimed, self.loaded.path)
            value.load_state_dict(self.unclaimed.pop(name))

    def begin_epochs(self) -> None:
        """The first epoch begins."""
        self.apply_random()
        self.random = None
        if self.loaded.is_mid_epoch and self.unclaimed:
            logger.warning(
                "%s was saved in the middle of epoch %d, and nothing is tracked as %s now: that epoch begins anew with "
                "its first batch",
                self.loaded.path,
                self.loaded.epoch + 1,
                ", ".join(map(repr, self.unclaimed)),
            )

    def apply_random(self) -> None:
        """Sets the generators."""
        if self.random is not None:
            self.random.apply({})


def is_loader(value: object) -> bool:
    """Whether an object yields batches: a `DataLoader`, or another iterable with a state."""
    if isinstance(value, (torch.nn.Module, torch.optim.Optimizer)):
        return False
    return isinstance(value, torch.utils.data.DataLoader) or (has_state(value) and hasattr(value, "__iter__"))


def _on_host(state: Any) -> Any:
    """`map_location` has moved the states of generators as well, which stand on the host."""
    if isinstance(state, torch.Tensor):
        return state.cpu()
    if isinstance(state, Mapping):
        return {key: _on_host(value) for key, value in state.items()}
    return [_on_host(value) for value in state] if isinstance(state, (list, tuple)) else state

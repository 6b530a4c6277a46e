"""From a checkpoint back into the program's objects.

1. The newest checkpoint that is whole is read, or the one that was asked for.
2. Its configuration is compared with the scenario's.
3. Every object is checked against its state; then each takes it.
4. Random number generators and tracked loaders get their states, once more when the first epoch begins: what the
   program drew in between, and the batches that it took to look at them, are not part of the epoch. Loaders that are
   tracked later find theirs here.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sucrose.data_order import RandomStates, TrackedLoader
from sucrose.errors import StateMismatchError
from sucrose.scenarios.checkpoints import Loaded
from sucrose.scenarios.objects import OWN_KEY, check_loadable, has_state, holds_tensors

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Resumption:
    """What a checkpoint says, until an epoch is finished; but for what the program's objects have taken."""

    path: str
    epoch: int
    is_mid_epoch: bool
    is_in_loop: bool
    """It was written in a loop over an `EpochRange`: places in loaders are those in the loop."""
    random: RandomStates | None
    """None where the checkpoint has none, or the first epoch has begun."""
    left: Mapping[str, Any]
    """What the program has not asked for."""
    unclaimed: dict[str, Any] = field(default_factory=dict)
    """States of objects that the earlier run has tracked, and this one not yet."""
    places: list[tuple[TrackedLoader, Any]] | None = field(default_factory=list)
    """Of tracked loaders; None once the first epoch has begun."""

    @classmethod
    def begin(
        cls,
        loaded: Loaded,
        objects: Mapping[str, Any],
        tracked: Mapping[str, Any],
        *,
        without: Container[str],
        loads_random: bool,
        before_first: Callable[[], None],
    ) -> tuple[Resumption, dict[str, Any]]:
        """Steps 3 and 4. Also returns what nobody has asked for.

        Args:
            loaded: the checkpoint.
            objects: those that are to be loaded.
            tracked: those that are, where they are there.
            without: names of what is no object.
            loads_random: whether to set the generators.
            before_first: called when all objects are checked, and none has changed.

        Raises:
            TypeError: an object cannot load anything.
            StateMismatchError: an object is not there, or its state does not fit.
        """
        left = dict(loaded.contents)
        own = left.pop(OWN_KEY, None)
        own = own if isinstance(own, Mapping) else {}
        wanted = {**{name: value for name, value in tracked.items() if name in left}, **objects}
        check_loadable(wanted, left, loaded.path)
        before_first()
        saved = own.get("random") if loads_random else None
        resumption = cls(
            path=loaded.path,
            epoch=loaded.epoch,
            is_mid_epoch=loaded.is_mid_epoch,
            is_in_loop=own.get("in_loop") is True,
            random=None if saved is None else RandomStates.from_state(_on_host(saved)),
            left={},
        )
        for name, value in wanted.items():
            resumption._give(value, left.pop(name))
        resumption.unclaimed = {name: left.pop(name) for name in own.get("tracked", ()) if name in left}
        resumption.left = {name: value for name, value in left.items() if name not in without}
        resumption._apply_random()
        return resumption, left

    def claim(self, name: str, value: Any) -> None:
        """An object is tracked from here on: it gets the state that waits for it.

        Raises:
            StateMismatchError: the state does not fit.
        """
        if name in self.unclaimed and has_state(value):
            check_loadable({name: value}, self.unclaimed, self.path)
            self._give(value, self.unclaimed.pop(name))

    def plain_values(self, known: Container[str]) -> dict[str, Any] | None:
        """What a checkpoint needs besides the objects that are `known`, until the program saves for the first time.

        None where that cannot be said: there are states, and the objects that have them by now are not known.
        """
        unknown = {name: value for name, value in {**self.left, **self.unclaimed}.items() if name not in known}
        return None if holds_tensors(unknown) else unknown

    def begin_epochs(self) -> None:
        """The first epoch begins."""
        for loader, state in self.places or ():
            if not loader.is_under_way:
                loader.load_state_dict(state)
        self.places = None
        self._apply_random()
        self.random = None
        if self.is_mid_epoch and self.unclaimed:
            logger.warning(
                "%s was saved in the middle of epoch %d, and nothing is tracked as %s now: that epoch begins anew with "
                "its first batch",
                self.path,
                self.epoch + 1,
                ", ".join(map(repr, self.unclaimed)),
            )

    def _give(self, value: Any, state: Any) -> None:
        if isinstance(value, TrackedLoader) and self.is_in_loop and self.places is not None:
            self.places.append((value, copy.deepcopy(state)))
        value.load_state_dict(state)

    def _apply_random(self) -> None:
        if self.random is not None:
            self.random.apply({})


def check_epoch(epoch: object) -> None:
    """Refuses what names no checkpoint, such as an object that was given without its name.

    Raises:
        TypeError: it is neither the number of an epoch, nor ``"best"`` or None.
    """
    if epoch is None or epoch == "best" or (isinstance(epoch, int) and not isinstance(epoch, bool)):
        return
    told = repr(epoch) if isinstance(epoch, str) else type(epoch).__name__
    raise TypeError(
        f"epoch={told}: expected the number of an epoch, 'best' or None. Objects are given by their names, as in "
        "load_state_dict(model=model)"
    )


def step_in(loaded: Loaded, key: str) -> int | None:
    """The number of steps in a checkpoint; None where it has none.

    Raises:
        StateMismatchError: it is no number.
    """
    if key not in loaded.contents:
        return None
    try:
        return int(loaded.contents[key])
    except (TypeError, ValueError) as error:
        raise StateMismatchError(
            f"{key!r} in {loaded.path} is a {type(loaded.contents[key]).__name__}, not a number of steps: name another "
            "step_key in the domain 'workspace', or load with load_step=False",
            path=loaded.path,
            key=key,
        ) from error


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

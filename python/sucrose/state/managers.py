"""State managers: each holds the value of one state, in one of several ways.

What happens in an `update`, a `get` and a save is a single assignment or look-up, so that a signal handler
may save in the middle of any of them.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from sucrose.state.base_manager import BaseStateManager
from sucrose.state.held import UNSET, Computed, Copied, Held, Loaded, LoadedOwned, Referenced, WeaklyReferenced

__all__ = ["UNSET", "BaseStateManager", "StateClosureManager", "StateCopyManager", "StateManager", "StateRefManager"]


class HoldingStateManager(BaseStateManager):
    """Subclasses say in `_hold` how the value is held. Thread-safe, and safe in signal handlers."""

    _held: Held | None = None

    def update(self, value: Any) -> None:
        """Sets the value. None is ignored.

        Raises:
            TypeError: the manager cannot hold such a value.
        """
        if value is None:
            return
        if isinstance(value, io.IOBase):
            _remember_file(value)
        self._held = self._hold(value)

    def get(self) -> Any:
        """The value; None while nothing was set or loaded."""
        held = self._held
        return None if held is None else held.get()

    def delete(self) -> None:
        """Forgets the value."""
        self._held = None

    def state_to_save(self) -> Any:
        """The value for a checkpoint; UNSET while there is none. This does not count as a `get`.

        Raises:
            UnsupportedError: the value cannot be found out; the message names the state.
        """
        held = self._held
        return UNSET if held is None else held.to_save()

    def adopt(self, load: Callable[[], Any]) -> None:
        """Takes over a saved value.

        Args:
            load: makes the value, when it is first needed, and once. An error of it is raised by `get`,
                and the next `get` tries again.
        """
        self._held = self._hold_loaded(Loaded(load))

    def untouched(self) -> Callable[[], Any] | None:
        """What was given to `adopt`, while nobody has needed the value; otherwise None."""
        held = self._held
        return None if held is None else held.untouched()

    @abstractmethod
    def _hold(self, value: Any) -> Held:
        """How a value is held that the program has set."""

    def _hold_loaded(self, loaded: Loaded) -> Held:
        """How a value is held that comes from a checkpoint."""
        return loaded


class StateManager(HoldingStateManager):
    """Keeps the object itself: what the program changes in it later is saved, and seen by `get`.

    Example:
        >>> from sucrose.state.managers import StateManager
        >>> progress = {"epoch": 0}
        >>> manager = StateManager("progress")
        >>> manager.update(progress)
        >>> progress["epoch"] = 1
        >>> manager.get()
        {'epoch': 1}
    """

    def _hold(self, value: Any) -> Held:
        return Referenced(value)


class StateCopyManager(HoldingStateManager):
    """Keeps a deep copy: what the program changes in its object later counts only after an `update`.

    Example:
        >>> from sucrose.state.managers import StateCopyManager
        >>> progress = {"epoch": 0}
        >>> manager = StateCopyManager("copied")
        >>> manager.update(progress)
        >>> progress["epoch"] = 1
        >>> manager.get()
        {'epoch': 0}
    """

    def _hold(self, value: Any) -> Held:
        return Copied(value, self.uid)


class StateRefManager(HoldingStateManager):
    """Keeps a weak reference: the state is there for as long as the program itself keeps the object.

    A loaded value is kept until the program gets it.

    Example:
        >>> from sucrose.state.managers import StateRefManager
        >>> from sucrose.state.picklable import PicklableDict
        >>> progress = PicklableDict(epoch=0)
        >>> manager = StateRefManager("referenced")
        >>> manager.update(progress)
        >>> manager.get() is progress
        True
        >>> del progress
        >>> manager.get() is None
        True
    """

    def _hold(self, value: Any) -> Held:
        return WeaklyReferenced(value, self.uid)

    def _hold_loaded(self, loaded: Loaded) -> Held:
        return LoadedOwned(loaded)


class StateClosureManager(HoldingStateManager):
    """Keeps a function without arguments: the state is what that returns whenever it is asked.

    Example:
        >>> from sucrose.state.managers import StateClosureManager
        >>> loss = 0.1
        >>> manager = StateClosureManager("loss")
        >>> manager.update(lambda: loss)
        >>> loss = 0.2
        >>> manager.get()
        0.2
    """

    def _hold(self, value: Any) -> Held:
        return Computed(value, self.uid)


def _remember_file(value: io.IOBase) -> None:
    from sucrose.state.open_files import OPEN_FILES, remember

    if isinstance(value, OPEN_FILES):
        remember(value)

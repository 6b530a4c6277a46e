"""`StateManagerGroup`: the states of a program under their keys, saved together and found again."""

from __future__ import annotations

import builtins
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from sucrose.state.checkpoints import PendingSave, SavedStates
from sucrose.state.configured import configured_checkpoints, configured_settings
from sucrose.state.managers import UNSET, BaseStateManager, StateManager
from sucrose.state.saver import Saver
from sucrose.state.triggers import install
from sucrose.state.values import FrozenState, freeze, thaw

logger = logging.getLogger(__name__)

_EVERYTHING = "*"


class StateManagerGroup:
    """All states of this process: one object, whoever asks for it.

    States are saved when the program ends, on SIGTERM, periodically where the settings say so, and by
    call; `docs/state.md` tells what holds when. A save takes all of them or none. States of an earlier
    run that this one has not registered yet are carried along. Thread-safe, and safe in signal
    handlers.

    Example:
        >>> from sucrose import StateManagerGroup
        >>> group = StateManagerGroup()
        >>> group.register("progress")
        >>> progress = group.get("progress") or {"epoch": 0}
        >>> group.update("progress", progress)
        >>> progress["epoch"] += 1
        >>> group.get("progress")["epoch"]
        1
    """

    _making = threading.RLock()
    _of_process: StateManagerGroup | None = None

    def __new__(cls) -> StateManagerGroup:  # noqa: PYI034 - not of subclasses: there is one object
        """The object of this process, made by the first call.

        Raises:
            ConfigError: a setting in the environment is malformed.
            PermissionError: checkpoints cannot be kept where the settings say.
        """
        with cls._making:
            if cls._of_process is None:
                group = super().__new__(cls)
                group._open()
                cls._of_process = group
            return cls._of_process

    def _open(self) -> None:
        settings = configured_settings()
        self._managers: dict[str, BaseStateManager] = {}
        self._instances: Counter[str] = Counter()
        self._saved: SavedStates | None = None
        self._was_looked_up = False
        self._inherited: dict[str, FrozenState] = {}
        """States of the restored checkpoint that were read, but neither registered nor dropped."""
        self._dropped: set[str] = set()
        self._reported_unset: list[str] = []
        self._saver = Saver(self._collect, configured_checkpoints())
        install(self._saver, settings)

    def register(self, key: str, state_mgr_type: type[BaseStateManager] = StateManager, auto_load: bool = True) -> None:
        """Makes a place for a state.

        Args:
            key: the state's name, the same in each run.
            state_mgr_type: how the state is held, see the manager classes.
            auto_load: give it the value of the newest valid checkpoint, if that has one.

        Raises:
            KeyError: the key is registered already.
            TypeError: the key is no str, or `state_mgr_type` no class of state managers.
            UnsafeObjectError: the checkpoint's value could run code, and the checkpoint is not to be
                trusted; the message says why.
        """
        if not isinstance(key, str):
            raise TypeError(f"a key is a str, not {type(key).__name__}: {key!r}")
        given: object = state_mgr_type
        if not (isinstance(given, type) and issubclass(given, BaseStateManager)):
            raise TypeError(f"{key!r}: {state_mgr_type!r} is no subclass of BaseStateManager")
        if key in self._managers:
            raise KeyError(f"{key!r} is registered already, as {self._managers[key]}")
        manager = state_mgr_type(key)
        if auto_load:
            self._load_into(key, manager)
        self._managers[key] = manager
        self._dropped.discard(key)
        self._saver.changes += 1

    def update(self, key: str, value: Any) -> None:
        """Sets the state; None is ignored. What is kept of `value` depends on the manager.

        Raises:
            KeyError: nothing is registered under `key`.
            TypeError: the manager does not take such a value.
        """
        self._manager(key).update(value)
        self._saver.changes += 1

    def get(self, key: str | None = None) -> Any:
        """The state; None while nothing was set or loaded.

        Args:
            key: may be left out where a single state is registered.

        Raises:
            KeyError: nothing is registered under `key`.
            TypeError: without a key where not exactly one state is registered.
        """
        if key is not None:
            return self._manager(key).get()
        managers = list(self._managers.values())
        if len(managers) != 1:
            raise TypeError(f"get() without a key needs exactly one registered state; there are {self.list()}")
        return managers[0].get()

    def list(self) -> builtins.list[str]:
        """The registered keys, in the order of their registration."""
        return [*self._managers]

    def contain(self, key: str) -> bool:
        """Whether something is registered under `key`."""
        return key in self._managers

    def delete(self, key: str) -> None:
        """Forgets a state; checkpoints from here on are without it. ``"*"`` means all of them.

        Raises:
            KeyError: nothing is registered under `key`.
        """
        if key == _EVERYTHING and key not in self._managers:
            self._dropped.update(self._keys_of_checkpoint())
            for name in self.list():
                self._drop(name)
        else:
            self._manager(key)
            self._drop(key)
        self._saver.changes += 1

    def keygen(self, obj: object) -> str:
        """A key for `obj`: the name of its type and how many of that type came before, as ``"dict.0"``."""
        name = type(obj).__name__
        number = self._instances[name]
        self._instances[name] += 1
        return f"{name}.{number}"

    def save(self) -> bool:
        """Saves all states now, and returns when they are durable; False where that was skipped.

        It is skipped, with a line in the log, while a state is registered that has no value yet.

        Raises:
            UnsupportedError: a state cannot be pickled; the message names it.
            OSError: writing failed; earlier checkpoints are untouched.
        """
        return self._saver.save()

    def async_save(self) -> PendingSave | None:
        """Saves all states in the background; None where that was skipped, as in `save`.

        Returns when the states may be changed. A save that is in flight is waited for first.

        Raises:
            UnsupportedError: a state cannot be pickled.
            OSError: writing could not begin.
        """
        self._saver.finish()
        return self._saver.begin()

    def load(self) -> bool:
        """Gives all registered states the values of the newest valid checkpoint; False without one.

        A state that the checkpoint does not have keeps its value.
        """
        self._saver.finish()
        self._was_looked_up = False
        self._inherited.clear()
        for key, manager in [*self._managers.items()]:
            self._load_into(key, manager)
        self._saver.changes += 1
        return self._checkpoint() is not None

    def pause_periodic_saving(self) -> None:
        """Holds periodic saves up: for the time in which states do not fit together. May be nested.

        Returns when no periodic save is looking at the states.
        """
        self._saver.pause()

    def resume_periodic_saving(self) -> None:
        """Ends one `pause_periodic_saving`; the last one lets periodic saves go on."""
        self._saver.resume()

    def _manager(self, key: str) -> BaseStateManager:
        manager = self._managers.get(key)
        if manager is None:
            raise KeyError(f"{key!r} is not registered; registered are {self.list()}")
        return manager

    def _drop(self, key: str) -> None:
        self._dropped.add(key)
        self._inherited.pop(key, None)
        self._managers.pop(key).delete()

    def _checkpoint(self) -> SavedStates | None:
        """The newest valid one, looked up once."""
        if not self._was_looked_up:
            self._saved = self._saver.checkpoints.newest()
            self._was_looked_up = True
        return self._saved

    def _keys_of_checkpoint(self) -> builtins.list[str]:
        saved = self._checkpoint()
        return [] if saved is None else saved.keys()

    def _load_into(self, key: str, manager: BaseStateManager) -> None:
        if key in self._dropped or key not in self._keys_of_checkpoint():
            return
        saved = self._saved
        assert saved is not None
        state = self._inherited.pop(key, None) or saved.read(key)
        source = self._saver.checkpoints.where
        load = _Loaded(state, key, source, saved.distrust)
        if saved.distrust is not None:
            load()  # refused here, not somewhere in the program
        manager.adopt(load)

    def _collect(self) -> dict[str, FrozenState] | None:
        managers = dict(self._managers)
        if not managers and not self._dropped:
            logger.debug("no states to save: nothing is registered")
            return None
        states: dict[str, FrozenState] = {}
        unset = []
        for key, manager in managers.items():
            untouched = manager.untouched()
            if isinstance(untouched, _Loaded):  # neither changed nor even looked at
                states[key] = untouched.state
            elif (value := manager.state_to_save()) is UNSET:
                unset.append(key)
            else:
                states[key] = freeze(value, key)
        if unset:
            level = logging.DEBUG if unset == self._reported_unset else logging.WARNING
            logger.log(level, "the states are not saved while these have no value: %s", ", ".join(unset))
            self._reported_unset = unset
            return None
        return {**self._carried_along(managers), **states}

    def _carried_along(self, managers: dict[str, BaseStateManager]) -> dict[str, FrozenState]:
        """States of the restored checkpoint that this run has not registered (yet)."""
        for key in self._keys_of_checkpoint():
            if key not in managers and key not in self._dropped and key not in self._inherited:
                assert self._saved is not None
                self._inherited[key] = self._saved.read(key)  # once: the checkpoint may be collected
        return {key: state for key, state in self._inherited.items() if key not in managers}


class _Loaded:
    """A value of a checkpoint, rebuilt when it is asked for."""

    def __init__(self, state: FrozenState, key: str, source: str, distrust: str | None) -> None:
        self.state = state
        self._thaw: Callable[[], Any] = lambda: thaw(state, key=key, source=source, distrust=distrust)

    def __call__(self) -> Any:
        return self._thaw()

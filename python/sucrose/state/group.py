"""`StateManagerGroup`: the states of a program under their keys, saved together and found again."""

from __future__ import annotations

import builtins
import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from sucrose.errors import StateMismatchError
from sucrose.state.checkpoints import PendingSave
from sucrose.state.collective.occasion import Occasion
from sucrose.state.configured import configured_checkpoints, configured_settings
from sucrose.state.earlier import EarlierStates
from sucrose.state.managers import UNSET, BaseStateManager, StateManager
from sucrose.state.saver import Saver
from sucrose.state.sharing import SharingWatch
from sucrose.state.triggers import install
from sucrose.state.values import FrozenState, freeze, thaw
from sucrose.state.workers import NoCheckpoints

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
        self._was_emptied = False
        """States were deleted: a checkpoint without any then says something."""
        self._reported_unset: list[str] = []
        self._sharing = SharingWatch()
        checkpoints = configured_checkpoints()
        self._earlier = EarlierStates(checkpoints)
        self._saver = Saver(self._collect, checkpoints)
        if not isinstance(checkpoints, NoCheckpoints):
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
            ConfigError: there are several ranks, and the settings keep states of one.
        """
        if not isinstance(key, str):
            raise TypeError(f"a key is a str, not {type(key).__name__}: {key!r}")
        given: object = state_mgr_type
        if not (isinstance(given, type) and issubclass(given, BaseStateManager)):
            raise TypeError(f"{key!r}: {state_mgr_type!r} is no subclass of BaseStateManager")
        if key in self._managers:
            raise KeyError(f"{key!r} is registered already, as {self._managers[key]}")
        self._saver.attend()
        manager = state_mgr_type(key)
        if auto_load:
            self._load_into(key, manager)
        self._managers[key] = manager
        if auto_load:
            self._earlier.drop(key)  # not sooner: a signal handler may save in between
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
            StateMismatchError: the checkpoint's value was saved per rank, by another number of ranks.
        """
        if key is not None:
            return self._manager(key).get()
        keys = self.list()
        if len(keys) != 1:
            raise TypeError(f"get() without a key needs exactly one registered state; there are {keys}")
        return self._managers[keys[0]].get()

    def list(self) -> builtins.list[str]:
        """The registered keys, in the order of their registration."""
        return [key for key, manager in self._managers.items() if not manager.is_internal]

    def contain(self, key: str) -> bool:
        """Whether something is registered under `key`."""
        return key in self._managers

    def delete(self, key: str) -> None:
        """Forgets a state; checkpoints from here on are without it. ``"*"`` means all of them.

        Raises:
            KeyError: nothing is registered under `key`.
        """
        if key == _EVERYTHING and key not in self._managers:
            self._earlier.drop_all()
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
        return self._saver.begin(Occasion.CALL, waits=True)

    def load(self) -> bool:
        """Gives all registered states the values of the newest valid checkpoint; False without one.

        A state that the checkpoint does not have keeps its value.
        """
        self._saver.finish()
        is_there = self._earlier.look_again()
        for key, manager in [*self._managers.items()]:
            self._load_into(key, manager)
            self._earlier.drop(key)
        self._saver.changes += 1
        return is_there

    def pause_periodic_saving(self) -> None:
        """Holds periodic saves up: for the time in which states do not fit together. May be nested.

        Returns when no periodic save is looking at the states.
        """
        self._saver.pause()

    def resume_periodic_saving(self) -> None:
        """Ends one `pause_periodic_saving`; the last one lets periodic saves go on."""
        self._saver.resume()

    def _manager(self, key: str) -> BaseStateManager:
        self._saver.attend()
        manager = self._managers.get(key)
        if manager is None:
            raise KeyError(f"{key!r} is not registered; registered are {self.list()}")
        return manager

    def _drop(self, key: str) -> None:
        self._was_emptied = True
        self._earlier.drop(key)
        self._managers.pop(key).delete()

    def _load_into(self, key: str, manager: BaseStateManager) -> None:
        try:
            state = self._earlier.find(key)
        except StateMismatchError as error:
            manager.adopt(_NotOurs(error))
            return
        if state is None:
            return
        manager.adopt(_Loaded(state, key, self._saver.checkpoints.where, self._earlier.distrust))

    def _collect(self) -> dict[str, FrozenState] | None:
        if not self._managers and not self._was_emptied:
            logger.debug("no states to save: nothing is registered")
            return None
        carried = self._earlier.carried_along(self._managers)
        managers = dict(self._managers)  # after that: what another thread registers in between is in both
        states: dict[str, FrozenState] = {}
        unset = []
        for key, manager in managers.items():
            untouched = manager.untouched()
            if isinstance(untouched, _Loaded):  # neither changed nor even looked at
                states[key] = untouched.state
            elif isinstance(untouched, _NotOurs) or (value := manager.state_to_save()) is UNSET:
                unset.append(key)
            else:
                states[key] = freeze(value, key)
        if unset:
            level = logging.DEBUG if unset == self._reported_unset else logging.WARNING
            logger.log(level, "the states are not saved while these have no value: %s", ", ".join(unset))
            self._reported_unset = unset
            return None
        self._sharing.look_at(states)
        return {**carried, **states}


class _Loaded:
    """A value of a checkpoint, rebuilt when it is asked for."""

    def __init__(self, state: FrozenState, key: str, source: str, distrust: str | None) -> None:
        self.state = state
        self._thaw: Callable[[], Any] = lambda: thaw(state, key=key, source=source, distrust=distrust)

    def __call__(self) -> Any:
        return self._thaw()


class _NotOurs:
    """Stands for a value of a checkpoint that other ranks have saved for themselves."""

    def __init__(self, error: StateMismatchError) -> None:
        self._error = error

    def __call__(self) -> Any:
        raise self._error.with_traceback(None)

"""The ways in which a state manager holds a value."""

from __future__ import annotations

import copy
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

from sucrose.errors import UnsupportedError


class _Unset(Enum):
    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = _Unset.UNSET
"""Stands where there is no value. None can be one: a function of the program's may return it."""


class Held(ABC):
    """A value, and how to come by it. Thread-safe, and safe in signal handlers."""

    def get(self) -> Any:
        """The value for the program; None where it is gone."""
        value = self.to_save()
        return None if value is UNSET else value

    @abstractmethod
    def to_save(self) -> Any:
        """The value for a checkpoint; UNSET where it is gone."""

    def untouched(self) -> Callable[[], Any] | None:
        """What makes the value, where it comes from a checkpoint and nobody has needed it yet."""
        return None


class Referenced(Held):
    """The object itself."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def to_save(self) -> Any:
        return self._value


class Copied(Held):
    """A deep copy, of which the program only ever gets copies.

    Raises:
        UnsupportedError: the value cannot be copied.
    """

    def __init__(self, value: Any, key: str) -> None:
        try:
            self._value = copy.deepcopy(value)
        except (TypeError, RuntimeError, copy.Error) as error:  # what locks, files and graphs of autograd raise
            raise UnsupportedError(
                f"the state {key!r}, a {type(value).__name__}, cannot be copied: {error}. Use StateManager.", key=key
            ) from error

    def get(self) -> Any:
        return copy.deepcopy(self._value)

    def to_save(self) -> Any:
        return self._value


class WeaklyReferenced(Held):
    """A weak reference.

    Raises:
        TypeError: the value does not allow for one.
    """

    def __init__(self, value: Any, key: str) -> None:
        try:
            self._reference = weakref.ref(value)
        except TypeError as error:
            raise TypeError(
                f"the state {key!r} is a {type(value).__name__}, to which there are no weak references: make it a "
                "PicklableDict, put it into a PicklableWrapper, or use StateManager"
            ) from error

    def to_save(self) -> Any:
        value = self._reference()
        return UNSET if value is None else value


class Computed(Held):
    """A function of the program's.

    Raises:
        TypeError: the value cannot be called.
    """

    def __init__(self, function: Any, key: str) -> None:
        if not callable(function):
            raise TypeError(
                f"the state {key!r} is given by a function without arguments, not by a {type(function).__name__}: "
                "update it with 'lambda: value'"
            )
        self._function = function
        self._key = key

    def get(self) -> Any:
        return self._function()

    def to_save(self) -> Any:
        try:
            return self._function()
        except Exception as error:
            raise UnsupportedError(
                f"the state {self._key!r} cannot be saved: its function has raised {type(error).__name__}: {error}",
                key=self._key,
            ) from error


class Loaded(Held):
    """A value of a checkpoint, made when it is first needed."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self._load: Callable[[], Any] | None = load
        """None once the value is there."""
        self._value: Any = UNSET
        # Re-entrant: the handler of a signal that comes during the load makes a value of its own, and
        # that is the one from there on.
        self._loading = threading.RLock()

    def to_save(self) -> Any:
        if self._load is not None:
            with self._loading:
                if self._load is not None:
                    value = self._load()
                    if self._value is UNSET:
                        self._value = value
                    self._load = None
        return self._value

    def untouched(self) -> Callable[[], Any] | None:
        return self._load


class LoadedOwned(Held):
    """A value of a checkpoint that is owned until the program gets it, and referenced weakly from there on.

    One to which there are no weak references is owned all the time.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._owned: Loaded | None = loaded
        self._reference: Callable[[], Any] = loaded.to_save

    def get(self) -> Any:
        value = self._reference()
        if self._owned is not None:
            try:
                self._reference = weakref.ref(value)
            except TypeError:
                return value
            self._owned = None
        return value

    def to_save(self) -> Any:
        value = self._reference()
        return UNSET if value is None and self._owned is None else value

    def untouched(self) -> Callable[[], Any] | None:
        owned = self._owned
        return None if owned is None else owned.untouched()

"""`BaseStateManager`: what the group asks of a manager.

There is one object per class and uid for as long as the process lives, whoever makes it.
"""

from __future__ import annotations

import logging
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from sucrose.state.held import UNSET

logger = logging.getLogger(__name__)

M = TypeVar("M")

_managers: dict[tuple[type, str], Any] = {}


class _OnePerUid(ABCMeta):
    """Makes ``Manager(uid)`` the same object each time. Thread-safe."""

    def __call__(cls: type[M], uid: str, *args: Any, **kwargs: Any) -> M:
        if not isinstance(uid, str):
            raise TypeError(f"the uid of a {cls.__name__} is a str, not {type(uid).__name__}: {uid!r}")
        known = _managers.get((cls, str(uid)))
        if known is None:
            made: Any = type.__call__(cls, uid, *args, **kwargs)
            made.uid = str(uid)  # also where the __init__ of a program's class does not call ours
            known = _managers.setdefault((cls, str(uid)), made)  # another thread may have been faster
        return known  # type: ignore[no-any-return]


class BaseStateManager(metaclass=_OnePerUid):
    """Holds the value of one state.

    Programs make managers of their own by deriving from this class, with `update`, `get` and `delete`, or
    from one of the classes below.

    Attributes:
        uid: the state's name.

    Example:
        >>> from sucrose import BaseStateManager
        >>> class Rounded(BaseStateManager):
        ...     rounded = None
        ...     def update(self, value):
        ...         self.rounded = round(value, 2)
        ...     def get(self):
        ...         return self.rounded
        ...     def delete(self):
        ...         self.rounded = None
        >>> manager = Rounded("loss")
        >>> manager.update(0.1234)
        >>> manager.state_to_save()
        0.12
    """

    uid: str
    is_internal: ClassVar[bool] = False
    """Not a state of the program's own: `StateManagerGroup` does not list it, and `delete("*")` leaves it."""

    def __init__(self, uid: str) -> None:
        self.uid = uid

    @abstractmethod
    def update(self, value: Any) -> None:
        """Sets the value. None is ignored.

        Raises:
            TypeError: the manager cannot hold such a value.
        """

    @abstractmethod
    def get(self) -> Any:
        """The value; None while nothing was set or loaded."""

    @abstractmethod
    def delete(self) -> None:
        """Forgets the value."""

    def save(self) -> None:
        """Adds a checkpoint in which this state is as it is now, and the others as in the newest one.

        Without a value nothing is saved, and the log says so.

        Raises:
            UnsupportedError: the value cannot be saved.
            OSError: writing failed.
        """
        from sucrose.state.checkpoints import save_one
        from sucrose.state.configured import configured_checkpoints
        from sucrose.state.values import freeze

        value = self.state_to_save()
        if value is UNSET:
            logger.warning("%s is not saved: it has no value", self)
        else:
            save_one(configured_checkpoints(), self.uid, freeze(value, self.uid))

    def load(self) -> None:
        """Takes over the value in the newest valid checkpoint, if there is one."""
        from sucrose.state.configured import configured_checkpoints
        from sucrose.state.values import thaw

        checkpoints = configured_checkpoints()
        newest = checkpoints.newest()
        if newest is None:
            return
        keys = newest.keys()
        if self.uid in keys:
            frozen, distrust = newest.read(self.uid), newest.distrust
            self.adopt(lambda: thaw(frozen, key=self.uid, source=checkpoints.where, distrust=distrust))
        newest.close()

    def state_to_save(self) -> Any:
        """The value for a checkpoint; UNSET while there is none. By default what `get` returns.

        Raises:
            UnsupportedError: the value cannot be found out; the message names the state.
        """
        value = self.get()
        return UNSET if value is None else value

    def adopt(self, load: Callable[[], Any]) -> None:
        """Takes over a saved value. By default it is made now, and set by `update`.

        Args:
            load: makes the value.
        """
        self.update(load())

    def untouched(self) -> Callable[[], Any] | None:
        """What was given to `adopt`, while nobody has needed the value; otherwise None."""
        return None

    def __str__(self) -> str:
        return f"{type(self).__name__}:{self.uid}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uid!r})"

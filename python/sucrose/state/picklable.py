"""Classes for values that are to be states.

Nearly everything can be a state as it is. These are for what cannot quite: plain dicts, lists and
numbers cannot be referenced weakly, as `StateRefManager` does.
"""

from __future__ import annotations

from typing import Any


class State:
    """Base of classes whose objects are meant to be states. It promises nothing more than that."""

    __slots__ = ()


class Picklable(State):
    """A state that pickle can take apart, and that can be referenced weakly.

    Deriving from it changes nothing for an ordinary class. A class with ``__slots__`` gets the slot
    for weak references.

    Example:
        >>> import weakref
        >>> from sucrose.state.picklable import Picklable
        >>> class Progress(Picklable):
        ...     __slots__ = ("epoch",)
        >>> progress = Progress()
        >>> weakref.ref(progress)() is progress
        True
    """

    __slots__ = ("__weakref__",)


class PicklableDict(dict[Any, Any], Picklable):  # type: ignore[misc]  # a slot for weak references fits any layout
    """A dict that can be referenced weakly. It has no attributes besides its items.

    Example:
        >>> from sucrose.state.picklable import PicklableDict
        >>> state = PicklableDict(k1=3)
        >>> state["k1"]
        3
    """

    __slots__ = ()

    # The items go the way of an object's attributes: that is the only way in which a pickle that must
    # not run code can fill anything but exact dicts, and it allows for a dict that contains itself.
    def __reduce_ex__(self, protocol: Any) -> Any:
        if type(self) is not PicklableDict:
            return super().__reduce_ex__(protocol)
        return PicklableDict, (), dict(self)

    def __setstate__(self, state: Any) -> None:
        if type(self) is PicklableDict:
            self.update(state)
        else:
            _set_attributes(self, state)

    def copy(self) -> PicklableDict:
        """A shallow copy of the same kind."""
        return PicklableDict(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({super().__repr__()})"


class PicklableWrapper(Picklable):
    """Holds any value, so that it can be referenced weakly and replaced: a number, a list, a tensor.

    Two wrappers are equal where their values are.

    Attributes:
        value: what it holds.

    Example:
        >>> from sucrose.state.picklable import PicklableWrapper
        >>> loss = PicklableWrapper(0.1)
        >>> loss.value = 0.2
        >>> loss == PicklableWrapper(0.2)
        True
    """

    __slots__ = ("value",)

    __hash__ = None  # type: ignore[assignment]  # it changes, and equality with it

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __reduce_ex__(self, protocol: Any) -> Any:
        if type(self) is not PicklableWrapper:
            return super().__reduce_ex__(protocol)
        return PicklableWrapper, (), (self.value,)  # empty first: the value may refer to the wrapper

    def __setstate__(self, state: Any) -> None:
        if type(self) is PicklableWrapper:
            (self.value,) = state
        else:
            _set_attributes(self, state)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PicklableWrapper):
            return NotImplemented
        return self.value is other.value or bool(self.value == other.value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.value!r})"


def _set_attributes(target: object, state: Any) -> None:
    """What pickle does for an object of a subclass, which has attributes of its own."""
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    for name, value in {**(attributes or {}), **(slots or {})}.items():
        setattr(target, name, value)

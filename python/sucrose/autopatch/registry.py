"""Names for the objects of a program that are the same in each of its runs."""

from __future__ import annotations

import weakref
from typing import Any


class Registry:
    """Objects under ``"<type>.<n>"``: the n-th of its type that was made, from 0. Held weakly.

    The name is given when the object is made and stays, whatever becomes of the object's class.
    """

    def __init__(self) -> None:
        self._made: dict[str, int] = {}
        self.count = 0
        """How many objects were named."""
        self._keys: dict[int, str] = {}
        self._objects: dict[str, weakref.ref[Any]] = {}

    def add(self, made: Any) -> str:
        """Names an object, once, and returns its name."""
        identity = id(made)
        known = self._keys.get(identity)
        if known is not None:
            return known
        kind = type(made).__qualname__
        number = self._made.get(kind, 0)
        self._made[kind] = number + 1
        self.count += 1
        key = f"{kind}.{number}"

        def forget(_: Any) -> None:
            self._keys.pop(identity, None)
            self._objects.pop(key, None)

        self._objects[key] = weakref.ref(made, forget)
        self._keys[identity] = key
        return key

    def key_of(self, made: Any) -> str | None:
        """The name of an object; None where it has none."""
        return self._keys.get(id(made))

    def living(self) -> dict[str, Any]:
        """All named objects that still exist, in the order in which they were made."""
        pairs = ((key, reference()) for key, reference in self._objects.copy().items())
        return {key: made for key, made in pairs if made is not None}

    def get(self, key: str) -> Any | None:
        """The object of that name; None where there is none (any more)."""
        reference = self._objects.get(key)
        return None if reference is None else reference()

    def was_made(self, key: str) -> bool:
        """Whether an object of that name was made, even if it is gone."""
        return int(key.rpartition(".")[2]) < self._made.get(kind_of(key), 0)


def kind_of(key: str) -> str:
    """The type's name in an object's name."""
    return key.rpartition(".")[0]

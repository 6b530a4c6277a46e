"""How the other ranks hear that one has begun a save for which they do not come by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sucrose.ranks import Ranks
    from sucrose.state.collective.occasion import Occasion

_ANY = "any"


class Calls:
    """The calls of all ranks. Thread-safe."""

    def __init__(self, ranks: Ranks) -> None:
        self._keys = ranks.keys("calls")

    def call(self, occasion: Occasion, number: int) -> None:
        """Tells the others of a round; several ranks may tell of the same one."""
        self._keys.put(occasion.value, str(number).encode())
        self._keys.count(_ANY, 1)

    def count(self) -> int:
        """How many calls there were, in one request."""
        return self._keys.count(_ANY)

    def latest(self, occasion: Occasion) -> int:
        """The number of the round that was called last; 0 before the first."""
        return int(self._keys.get(occasion.value)) if self._keys.has(occasion.value) else 0

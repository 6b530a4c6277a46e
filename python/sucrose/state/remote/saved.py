"""A generation that was found on the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sucrose.state.values import FrozenState


class RemoteStates:
    """Implements `SavedStates`: a generation that was read whole, as only that tells whether it verifies.

    Args:
        states: the generation.
        read_again: fetches it anew.
        distrust: why its pickles must not run code.
    """

    def __init__(
        self,
        states: Mapping[str, FrozenState],
        read_again: Callable[[], Mapping[str, FrozenState]],
        distrust: str | None,
    ) -> None:
        self.distrust = distrust
        self._keys = list(states)
        self._unread = dict(states)
        self._read_again = read_again

    def keys(self) -> list[str]:
        return [*self._keys]

    def read(self, key: str) -> FrozenState:
        """One of the states; the caller's own, as values that are made of it share its memory.

        Raises:
            KeyError: it has no such state.
            CorruptionError: read for a second time, and it is damaged or was removed since.
        """
        if key not in self._keys:
            raise KeyError(key)
        state = self._unread.pop(key, None)
        return self._read_again()[key] if state is None else state

    def close(self) -> None:
        self._unread.clear()

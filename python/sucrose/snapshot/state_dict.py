"""A dict that is stateful."""

from __future__ import annotations

from collections import UserDict
from typing import Any


class StateDict(UserDict[str, Any]):
    """Makes values that are not stateful themselves part of an application state.

    Example:
        >>> from sucrose import StateDict
        >>> progress = StateDict(epoch=0, best_loss=float("inf"))
        >>> progress["epoch"] += 1
        >>> progress.state_dict()["epoch"]
        1
    """

    def state_dict(self) -> dict[str, Any]:
        """The dict itself, without a copy."""
        return self.data

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Updates the dict with `state_dict`."""
        self.data.update(state_dict)

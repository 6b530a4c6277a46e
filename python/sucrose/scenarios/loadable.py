"""Whether the checkpoints that a program writes will load again as they should: without running their pickles."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from sucrose.errors import UnsafeObjectError
from sucrose.scenarios.checkpoints.taken_apart import TakenApart

logger = logging.getLogger(__name__)

_REFUSED = re.compile(r"GLOBAL (\S+)")


class LoadableCheck:
    """Looks at the first checkpoint of a run, and at the first with other names in it. For one thread.

    Attributes:
        is_off: the program trusts its checkpoints, and is not bothered.

    Example:
        >>> import torch
        >>> from sucrose.scenarios.loadable import refused_by_weights_only
        >>> refused_by_weights_only({"weight": torch.ones(2), "loss": 0.5, "range": range(3)})
        {'range': 'range'}
    """

    def __init__(self) -> None:
        self.is_off = False
        self._known: Collection[str] = ()

    def look_at(self, contents: Mapping[str, Any], path: str) -> None:
        """Warns of what `load_state_dict` would refuse. Tensors are not copied.

        Args:
            contents: of the checkpoint.
            path: where checkpoints are written, for the message.
        """
        new = {name: value for name, value in contents.items() if name not in self._known}
        if self.is_off or not new:
            return
        self._known = [*self._known, *new]
        refused = refused_by_weights_only(new)
        if refused:
            needs = ", ".join(f"{name!r} (needs {what})" for name, what in sorted(refused.items()))
            logger.warning(
                "the checkpoints in %s will not load as they are: weights_only, which is the default, refuses %s. "
                "Save tensors and plain values instead, such as float(loss), or load with "
                "loader_kwds={'weights_only': False}",
                path,
                needs,
            )


def refused_by_weights_only(contents: Mapping[str, Any]) -> dict[str, str]:
    """By name what is refused, and why. What cannot be saved at all is not among it."""
    refused = {}
    for name, value in contents.items():
        with suppress(Exception):  # saving says better what cannot be saved
            parts = TakenApart.of({name: value})
            try:
                parts.put_together(_stay, weights_only=True)
            except UnsafeObjectError as error:
                found = _REFUSED.search(str(error))
                refused[name] = found[1] if found else str(error)
    return refused


def _stay(storage: Any, location: str) -> Any:  # noqa: ARG001 - asked as a map_location
    return storage

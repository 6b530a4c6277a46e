"""Writing a snapshot: nested state, tied tensors, primitives and objects all have a place in one."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from sucrose.interchange.losses import gradient_notes, sharing_notes
from sucrose.interchange.target import VALUE_KEY
from sucrose.interchange.trees import is_container, leaves_of
from sucrose.snapshot.snapshot import Snapshot

if TYPE_CHECKING:
    from sucrose.interchange.target import Target

DEFAULT_KEY = "state"
"""What a state is called whose top level is not all dicts."""


def write_snapshot(tree: Any, target: Target) -> list[str]:
    """Takes a snapshot of `tree`; each dict at its top level becomes a stateful, as ``app_state`` has them.

    Returns:
        What is different in it.
    """
    notes: list[str] = []
    app_state: dict[str, Any] = {}
    if _is_app_state(tree) and target.key is None:
        app_state = {key: _Held(value) for key, value in tree.items()}
    else:
        key = target.key or DEFAULT_KEY
        state = tree
        if type(tree) not in (dict, OrderedDict) or not is_container(tree):
            state = {VALUE_KEY: tree}
        app_state = {key: _Held(state)}
        if target.key is None:
            notes.append(
                f"its top level is not made of dicts alone, so all of it is called {key!r}; --key renames that"
            )
    leaves = leaves_of(tree)
    notes += sharing_notes(leaves, ties_survive=True) + gradient_notes(leaves)
    Snapshot.take(target.path, app_state, overwrite=target.overwrite, compression=target.compression, progress=False)
    return notes


class _Held:
    """A stateful that only hands out what it was given."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def state_dict(self) -> Any:
        return self._state

    def load_state_dict(self, state_dict: Any) -> None:
        self._state = state_dict


def _is_app_state(tree: Any) -> bool:
    return (
        type(tree) in (dict, OrderedDict)
        and len(tree) > 0
        and all(type(key) is str for key in tree)
        and all(type(value) in (dict, OrderedDict) and is_container(value) for value in tree.values())
    )

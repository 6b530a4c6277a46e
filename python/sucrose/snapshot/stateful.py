"""What an application state is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Stateful(Protocol):
    """An object that can tell its state and take it back.

    Modules, optimizers and LR schedulers are; `StateDict` makes one of anything.
    """

    def state_dict(self) -> dict[str, Any]:
        """The state, as nested containers of tensors and other values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a state that `state_dict` returned before."""
        ...


AppState = Mapping[str, Stateful]


def check_app_state(app_state: Mapping[str, Any]) -> None:
    """Raises what users of torchsnapshot expect for a bad `app_state`.

    Raises:
        TypeError: not a mapping, a key that is no str, or a value that is no `Stateful`.
        ValueError: a key with a lone surrogate, for which there is no UTF-8.
        RuntimeError: more than one `RNGState`.
    """
    from sucrose.snapshot.rng_state import RNGState

    if not isinstance(app_state, Mapping):
        raise TypeError(f"app_state must be a dict of statefuls, not {type(app_state).__name__}")
    for key, value in app_state.items():
        if not isinstance(key, str):
            raise TypeError(f"app_state has the key {key!r}; keys must be str")
        if not key.isascii() and any("\ud800" <= character <= "\udfff" for character in key):
            raise ValueError(f"app_state has the key {key!r}, which is not valid Unicode")
        if not isinstance(value, Stateful):
            raise TypeError(
                f"app_state[{key!r}] is a {type(value).__name__}, which has no state_dict() and "
                "load_state_dict(): wrap plain values in a StateDict"
            )
    rng = [key for key, value in app_state.items() if isinstance(value, RNGState)]
    if len(rng) > 1:
        raise RuntimeError(f"app_state has {len(rng)} RNGStates ({', '.join(rng)}); one holds them all")

"""The random number generators as one stateful."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch

if "numpy" in sys.modules:
    # By torch, mostly. NumPy imports and seeds its generators only when they are first used, which may be after a
    # snapshot; and an import at the end of a program makes Python forget that Ctrl-C has ended it.
    import numpy.random  # noqa: F401


class RNGState:
    """State of every generator that training usually draws from, in this process.

    These are Python's `random`, torch's CPU generator, NumPy's global generator (where NumPy
    has been imported) and the default generator of every CUDA device (where CUDA is in use). Taking a
    snapshot leaves them as they were before it; restoring one sets them last, so that what follows
    draws the same numbers as what followed the snapshot.

    Snapshots of torchsnapshot have torch's CPU generator only; the others then keep their state.

    Example:
        >>> import torch
        >>> from sucrose import RNGState
        >>> rng = RNGState()
        >>> before = rng.state_dict()
        >>> first = torch.rand(3)
        >>> rng.load_state_dict(before)
        >>> torch.equal(first, torch.rand(3))
        True
    """

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain numbers only, so that restoring needs no pickle."""
        version, words, gauss_next = random.getstate()
        state: dict[str, Any] = {
            "rng_state": torch.get_rng_state(),
            "python": {
                "version": version,
                "words": torch.tensor(words, dtype=torch.int64),
                "gauss_next": [] if gauss_next is None else [gauss_next],
            },
        }
        if "numpy" in sys.modules:
            import numpy.random

            state["numpy"] = _without_arrays(numpy.random.get_state(legacy=False))
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Sets every generator that `state_dict` has a state for and this machine has.

        Raises:
            KeyError: `state_dict` is not the state of an `RNGState`.
        """
        torch.set_rng_state(state_dict["rng_state"])
        if "python" in state_dict:
            python = state_dict["python"]
            gauss_next = python["gauss_next"][0] if python["gauss_next"] else None
            random.setstate((python["version"], tuple(python["words"].tolist()), gauss_next))
        if "numpy" in state_dict:
            import numpy

            numpy.random.set_state(_with_arrays(state_dict["numpy"]))
        if "cuda" in state_dict and torch.cuda.is_available():
            for device, state in enumerate(state_dict["cuda"][: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)


def _without_arrays(state: Any) -> Any:
    """NumPy's state, whose fields depend on the bit generator, with int64 tensors for its arrays.

    These are unsigned, which torchsnapshot could not read.
    """
    if isinstance(state, dict):
        return {key: _without_arrays(value) for key, value in state.items()}
    if hasattr(state, "astype"):
        return torch.from_numpy(state.astype("int64"))
    return state


def _with_arrays(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _with_arrays(value) for key, value in state.items()}
    return state.numpy().view("uint64") if isinstance(state, torch.Tensor) else state

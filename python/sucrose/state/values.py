"""A state's value, taken apart for saving and put together again.

1. `freeze` pickles the value; the storages of its tensors are taken out and stay where they are.
2. `to_state_dict` makes tensors of both, without a copy of the storages, for the engine to write.
3. `from_state_dict` and `thaw` are the way back. Values from places that others can write are
   restored as far as no code can run.
"""

from __future__ import annotations

import ctypes
import io
import logging
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sucrose.errors import CorruptionError, StateMismatchError, SucroseError, UnsafeObjectError, UnsupportedError
from sucrose.snapshot.tensors import storage_address
from sucrose.snapshot.torch_unpickle import unpickle
from sucrose.state.arrays import rebuild_array, rebuild_scalar
from sucrose.state.picklable import PicklableDict, PicklableWrapper
from sucrose.state.value_pickler import ValuePickler

logger = logging.getLogger(__name__)

_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    PicklableDict,
    PicklableWrapper,
    rebuild_array,
    rebuild_scalar,
    frozenset,
    bytes,  # empty ones; others need no global
]
"""What may be restored from anywhere, besides what torch allows."""

_ATTEMPTS = 6
_FIRST_PAUSE_S = 0.001


@dataclass(frozen=True, slots=True)
class FrozenState:
    """One value taken apart.

    Attributes:
        pickled: the value's pickle, with references to the storages.
        storages: what its tensors view, on any device: the program's own memory, not copies.
    """

    pickled: bytes
    storages: tuple[torch.UntypedStorage, ...]


def freeze(value: Any, key: str) -> FrozenState:
    """Takes the value of the state `key` apart.

    Tensors are found wherever they are in it, also inside arbitrary objects; those that share memory
    will share it again. Nothing is copied but NumPy arrays that are not contiguous and the contents of
    open files, and those are as they are at this moment.

    Raises:
        UnsupportedError: something in the value cannot be pickled, or keeps changing meanwhile.

    Example:
        >>> import torch
        >>> from sucrose.state.values import freeze, thaw
        >>> frozen = freeze({"weight": torch.ones(2), "steps": 3}, "progress")
        >>> thaw(frozen, key="progress", source="memory", distrust=None)
        {'weight': tensor([1., 1.]), 'steps': 3}
    """
    pause_s = _FIRST_PAUSE_S
    for _ in range(_ATTEMPTS - 1):
        try:
            return _pickle(value, key)
        except _ChangedMeanwhileError:
            time.sleep(pause_s)
            pause_s *= 2
    return _pickle(value, key)


def thaw(frozen: FrozenState, *, key: str, source: str, distrust: str | None) -> Any:
    """Puts the value of the state `key` together, around the storages of `frozen`.

    Storages of a CUDA device that this machine does not have stay on the host, with a warning.

    Args:
        frozen: its storages on the host become those of the value, so thaw it once.
        key: the state's name, for messages.
        source: where it comes from, for messages.
        distrust: None, where the pickle may run code. Otherwise the reason why it must not: tensors,
            plain values and containers, arrays, `PicklableDict` and `PicklableWrapper` are restored,
            and what was allowed by torch.serialization.add_safe_globals.

    Raises:
        UnsafeObjectError: the value needs more than that; the message gives the reason.
        StateMismatchError: the program lacks a class or a module that the value needs.
        CorruptionError: the pickle is none, or does not fit the storages.
        OSError: an open file in the value cannot be written or opened.
    """
    storages = {str(number): storage for number, storage in enumerate(frozen.storages)}
    if distrust is not None:
        torch.serialization.add_safe_globals(_HARMLESS)
    try:
        return unpickle(frozen.pickled, storages, _PresentDevices(key), weights_only=distrust is not None, path=source)
    except UnsafeObjectError as error:
        raise UnsafeObjectError(
            f"the state {key!r} in {source} is not restored, because {distrust}, and it holds more than tensors and "
            f"plain values, which could run any code: {_what_is_refused(error)} If you trust whoever wrote it, allow "
            "that alone with torch.serialization.add_safe_globals.",
            path=source,
            key=key,
        ) from error
    except (AttributeError, ImportError) as error:
        raise StateMismatchError(
            f"the state {key!r} in {source} cannot be restored: {error}. It was saved by a program that had it; define "
            "or import it before the state is asked for.",
            path=source,
            key=key,
        ) from error
    except (pickle.UnpicklingError, EOFError, CorruptionError) as error:
        message = f"the pickle of the state {key!r} in {source} is broken: {error}."
        raise CorruptionError(message, path=source, key=key) from error


def to_state_dict(frozen: FrozenState) -> dict[str, Any]:
    """The parts as tensors of bytes; those of storages share their memory and device."""
    storages = {}
    for number, storage in enumerate(frozen.storages):
        flat = torch.empty(0, dtype=torch.uint8, device=storage.device)
        storages[str(number)] = flat.set_(storage)
    return {"pickle": torch.frombuffer(bytearray(frozen.pickled), dtype=torch.uint8), "storages": storages}


def from_state_dict(state_dict: Mapping[str, Any]) -> FrozenState:
    """The inverse of `to_state_dict`.

    Raises:
        CorruptionError: `state_dict` is not what that makes.
    """
    try:
        pickled = _own_storage(state_dict["pickle"])
        parts = state_dict["storages"]
        storages = tuple(_own_storage(parts[str(number)]) for number in range(len(parts)))
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptionError(f"not a state that was taken apart: {error!r}") from error
    return FrozenState(ctypes.string_at(storage_address(pickled), pickled.nbytes()), storages)


class _ChangedMeanwhileError(UnsupportedError):
    """Another thread has changed the value while it was pickled."""


class _PresentDevices(dict[Any, Any]):
    """A map_location for torch: from devices that this machine lacks to the host."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key
        self._missed: set[str] = set()

    def get(self, location: Any, default: Any = None) -> Any:  # noqa: ARG002 - that is the location itself
        try:
            device = torch.device(location)
        except RuntimeError as error:
            raise CorruptionError(str(error)) from error
        if device.type != "cuda" or (torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()):
            return location
        if str(location) not in self._missed:
            self._missed.add(str(location))
            logger.warning(
                "the state %r was on %s, which is not there: it is restored on the host", self._key, location
            )
        return "cpu"


def _pickle(value: Any, key: str) -> FrozenState:
    buffer = io.BytesIO()
    pickler = ValuePickler(buffer)
    try:
        pickler.dump(value)
    except (MemoryError, OSError):
        raise
    except SucroseError as error:
        raise UnsupportedError(f"the state {key!r} cannot be saved: {error}", key=key) from error
    except RecursionError as error:
        raise UnsupportedError(f"the state {key!r} is nested too deeply to be saved", key=key) from error
    except Exception as error:  # objects say in their own ways that they cannot be pickled
        if isinstance(error, RuntimeError) and _tells_of_change(error):
            raise _ChangedMeanwhileError(
                f"the state {key!r} cannot be saved: it is changed all the time, {error}. Keep it still with "
                "pause_periodic_saving(), or save a copy with StateCopyManager.",
                key=key,
            ) from error
        raise UnsupportedError(
            f"the state {key!r}, a {_name_of(value)}, cannot be saved: the {_name_of(pickler.latest)} in it cannot be "
            f"pickled: {error}",
            key=key,
        ) from error
    return FrozenState(buffer.getvalue(), tuple(pickler.storages))


def _tells_of_change(error: RuntimeError) -> bool:
    text = str(error)
    return "during iteration" in text and ("changed" in text or "mutated" in text)


def _name_of(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _what_is_refused(error: UnsafeObjectError) -> str:
    """The sentence of torch's message that names the class or function."""
    cause = str(error.__cause__).strip().partition("\n")[0]
    return cause.partition(" Please use")[0].rstrip(".") + "."


def _own_storage(tensor: torch.Tensor) -> torch.UntypedStorage:
    """The tensor's storage, where that holds nothing else; otherwise that of a copy."""
    storage = tensor.untyped_storage()
    return storage if storage.nbytes() == tensor.nbytes else tensor.clone().untyped_storage()

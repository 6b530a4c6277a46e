"""Loaders whose place is saved with the rest of a training run, and found again in the next."""

from __future__ import annotations

import copyreg
import inspect
import types
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from torch.utils.data import DataLoader

from sucrose.data_order.passes import Passes
from sucrose.data_order.place import LoaderPlace, is_place
from sucrose.errors import StateMismatchError, UnsupportedError

_PASSES = "_sucrose_passes"


class TrackedLoader:
    """The place in a loader, as a state.

    Attributes:
        loader: the loader itself, to be iterated over as ever.
    """

    def __init__(self, loader: Any, passes: Passes, at_boundary: Callable[[], None]) -> None:
        self.loader = loader
        self._passes = passes
        # Whoever has that method has this object, too, and a cycle of them would keep the loader's workers alive until
        # garbage is collected. Torch then waits for them in vain, for 5 s each: their queues are gone before them.
        self._at_boundary = weakref.WeakMethod(at_boundary) if inspect.ismethod(at_boundary) else lambda: at_boundary
        passes.listeners = [one for one in passes.listeners if one() is not None]
        passes.listeners.append(weakref.WeakMethod(self._reach_boundary))

    @property
    def skipped(self) -> int:
        """Batches that the pass which is under way, or else the next one, does not deliver: they were used earlier.

        For ``enumerate(loader, start=tracked.skipped)``.
        """
        return self._passes.skipped

    @property
    def completed(self) -> int:
        """Passes of this epoch that are over: they would yield nothing in a run that is resumed here."""
        return self._passes.completed

    @property
    def is_under_way(self) -> bool:
        """Whether the program is in the middle of a pass."""
        return self._passes.is_under_way

    def looking_ahead(self) -> AbstractContextManager[bool]:
        """Tells whether a pass is under way that will deliver another batch.

        For that, the batch may be fetched. Inside, the state and the generators are as before that.
        """
        return self._passes.looking_ahead()

    def finish_epoch(self) -> None:
        """An epoch is over: the passes so far need not be passed over when the next one is resumed.

        A pass that is under way remains so.
        """
        self._passes.finish_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Where the program is in its passes; exact at boundaries. Tensors, containers and plain values."""
        return self._passes.place().to_state()

    def load_state_dict(self, state: Any) -> None:
        """The next passes are those that came after `state_dict` was called.

        Passes of that epoch that were over yield nothing. The pass that was under way yields what it had not
        yielded, with the same random numbers, and leaves the generators as they were.

        Args:
            state: from `state_dict`, or from the loader's own.

        Raises:
            FormatVersionError: a newer release has written it.
            StateMismatchError: it is neither.
        """
        if is_place(state):
            self._passes.load(LoaderPlace.from_state(state))
        elif hasattr(self.loader, "load_state_dict"):
            self._passes.load_own(state)
        else:
            raise StateMismatchError(
                f"a {type(state).__name__} is not the place in a {type(self.loader).__name__}: something else was "
                "saved under the name of this loader. Track it under another name"
            )

    def _reach_boundary(self) -> None:
        at_boundary = self._at_boundary()
        if at_boundary is not None:
            at_boundary()


def track_loader(loader: Any, at_boundary: Callable[[], None]) -> TrackedLoader:
    """Follows the passes over a loader, from here on; loaders that are tracked already have one place.

    The object remains the one that it was. Its class becomes a subclass of what it was, so that ``iter(loader)``
    is heard of wherever the program calls it; copies and pickles are of the class that it had.

    Args:
        loader: a `torch.utils.data.DataLoader`, or anything that can be iterated over and has `state_dict` and
            `load_state_dict`, as torchdata's `StatefulDataLoader` does.
        at_boundary: called where a pass is asked for another batch, and where it is exhausted. The object of a bound
            method is not kept alive.

    Returns:
        The place; as long as it lives, `at_boundary` is called.

    Raises:
        UnsupportedError: it is neither, or its class allows no subclass to take its place.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader
        >>> loader = DataLoader(torch.arange(6), shuffle=True)
        >>> tracked = track_loader(loader, lambda: None)
        >>> batches = iter(loader)
        >>> _ = next(batches), next(batches)
        >>> state = tracked.state_dict()
        >>> expected = list(batches)
        >>> tracked.load_state_dict(state)
        >>> tracked.skipped
        2
        >>> list(loader) == expected
        True
    """
    passes = getattr(type(loader), _PASSES, None)
    if passes is None:
        passes = _follow(loader)
    return TrackedLoader(loader, passes, at_boundary)


def _follow(loader: Any) -> Passes:
    base = type(loader)
    keeps_its_place = hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")
    if not hasattr(base, "__iter__") or not (isinstance(loader, DataLoader) or keeps_its_place):
        raise UnsupportedError(
            f"a {base.__name__} cannot be tracked: expected a torch.utils.data.DataLoader, or an object with __iter__, "
            "state_dict and load_state_dict"
        )
    try:
        passes = Passes(loader, base.__iter__)
        object.__setattr__(loader, "__class__", _subclass(base, passes))
    except TypeError as error:
        raise UnsupportedError(
            f"a {base.__name__} cannot be tracked, its class is too special ({error}); give a DataLoader, or an object "
            "of a plain class that passes batches on from it"
        ) from error
    return passes


def _subclass(base: type, passes: Passes) -> type:
    reduce: Any = base.__reduce_ex__

    def reduce_as_base(loader: Any, protocol: Any) -> Any:
        reduced = reduce(loader, protocol)
        if isinstance(reduced, str):
            return reduced
        make, arguments, *rest = reduced
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]  # typeshed lacks it; pickle checks its argument
            make = base.__new__
        return (make, tuple(base if one is tracked else one for one in arguments), *rest)

    names = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__slots__": (),
        "__iter__": lambda _: passes.begin(),
        "__reduce_ex__": reduce_as_base,
        _PASSES: passes,
    }
    tracked = types.new_class(base.__name__, (base,), exec_body=lambda namespace: namespace.update(names))
    return tracked

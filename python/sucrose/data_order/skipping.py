"""Brings a new iterator of a loader to where an earlier run was.

Batches of workers are fetched again and thrown away, so that random changes which the workers make to
samples come out as they would have. That takes as long as loading them.
``SUCROSE_LOADER_SKIP=fast`` draws from the sampler instead: then the order of the samples is right, and random
changes made by workers differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.dataloader import _BaseDataLoaderIter

from sucrose.errors import StateMismatchError
from sucrose.options import current_options

Make = Callable[[DataLoader[Any]], Any]
"""A loader's own ``__iter__``."""


def make_iterator(make: Make, loader: DataLoader[Any], count: int) -> tuple[Any, int]:
    """A new iterator, and how many of `count` batches it has still to skip.

    With fast skipping, workers never hear of the first ones.
    """
    if (
        count
        and loader.num_workers
        and current_options().loader_skip == "fast"
        and not isinstance(loader.dataset, IterableDataset)
    ):
        iterator = _make_with_sampler(make, loader, lambda sampler: _WithoutFirst(sampler, count))
        if isinstance(iterator, _BaseDataLoaderIter):
            iterator._num_yielded = count  # noqa: SLF001
            return iterator, 0
        return iterator, count  # of a subclass that begins when it is first asked: it has the sampler itself
    return make(loader), count


def start_workers(make: Make, loader: DataLoader[Any]) -> None:
    """Has a loader whose workers persist start them, without any batch to load."""
    _make_with_sampler(make, loader, lambda _: ())


def skip(loader: DataLoader[Any], iterator: Any, count: int) -> None:
    """Lets `count` batches go by.

    Raises:
        StateMismatchError: there are not that many.
    """
    is_fetched_here = not loader.num_workers and not isinstance(loader.dataset, IterableDataset)
    try:
        if is_fetched_here and isinstance(iterator, _BaseDataLoaderIter):
            for _ in range(count):
                iterator._next_index()  # type: ignore[no-untyped-call]  # noqa: SLF001 - what its __next__ begins with
            iterator._num_yielded += count  # noqa: SLF001
        else:
            for _ in range(count):
                next(iterator)
    except StopIteration:
        raise StateMismatchError(
            f"the pass over a {type(loader).__name__} that was interrupted had used {count} batches, and now there are "
            "fewer: the data have changed. Bring them back, or begin anew without the saved state."
        ) from None


def _make_with_sampler(make: Make, loader: DataLoader[Any], replace: Callable[[Any], Any]) -> Any:
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    sampler = getattr(loader, name)
    vars(loader)[name] = replace(sampler)  # the loader itself forbids it
    try:
        iterator = make(loader)
    finally:
        vars(loader)[name] = sampler
    if isinstance(iterator, _BaseDataLoaderIter):
        iterator._index_sampler = sampler  # noqa: SLF001 - for the next pass, where workers persist
    return iterator


class _WithoutFirst:
    def __init__(self, sampler: Any, count: int) -> None:
        self._sampler = sampler
        self._count = count

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._sampler), self._count, None)

    def __len__(self) -> int:
        return max(0, len(self._sampler) - self._count)

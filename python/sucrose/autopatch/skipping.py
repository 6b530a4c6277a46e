"""Brings a new iterator of a loader to where an earlier run was.

Batches of workers are fetched again and thrown away, so that random changes which the workers make to
samples come out as they would have. That takes as long as loading them.
``SUCROSE_AUTOPATCH_SKIP=fast`` draws from the sampler instead: then the order of the samples is right, and random
changes made by workers differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from sucrose.errors import StateMismatchError
from sucrose.options import current_options


def make_iterator(make: Callable[[DataLoader[Any]], Any], loader: DataLoader[Any], count: int) -> tuple[Any, int]:
    """A new iterator, and how many of `count` batches it has still to skip.

    With fast skipping, workers never hear of the first ones.
    """
    if (
        count
        and loader.num_workers
        and current_options().autopatch_skip == "fast"
        and not isinstance(loader.dataset, IterableDataset)
    ):
        name = "sampler" if loader.batch_sampler is None else "batch_sampler"
        sampler = getattr(loader, name)
        vars(loader)[name] = _WithoutFirst(sampler, count)  # the loader itself forbids it
        try:
            iterator = make(loader)
        finally:
            vars(loader)[name] = sampler
        iterator._index_sampler = sampler  # noqa: SLF001 - for the next pass, where workers persist
        iterator._num_yielded = count  # noqa: SLF001
        return iterator, 0
    return make(loader), count


def skip(loader: DataLoader[Any], iterator: Any, count: int) -> None:
    """Lets `count` batches go by.

    Raises:
        StateMismatchError: there are not that many.
    """
    try:
        if loader.num_workers or isinstance(loader.dataset, IterableDataset):
            for _ in range(count):
                next(iterator)
        else:
            for _ in range(count):
                iterator._next_index()  # noqa: SLF001 - what its __next__ begins with
            iterator._num_yielded += count  # noqa: SLF001
    except StopIteration:
        raise StateMismatchError(
            f"the pass over a {type(loader).__name__} that was interrupted had used {count} batches, and now there are "
            "fewer: the data have changed. Bring them back, or begin anew with an empty root."
        ) from None


class _WithoutFirst:
    def __init__(self, sampler: Any, count: int) -> None:
        self._sampler = sampler
        self._count = count

    def __iter__(self) -> Iterator[Any]:
        return islice(iter(self._sampler), self._count, None)

    def __len__(self) -> int:
        return max(0, len(self._sampler) - self._count)

"""A training program in miniature: passes over a loader, and random numbers drawn in between."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, get_worker_info

from sucrose.data_order import RandomStates, track_loader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sucrose.data_order import TrackedLoader


class Plain(Dataset[torch.Tensor]):
    """Numbers as they are."""

    def __init__(self, length: int = 11) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(float(index))


class Noisy(Plain):
    """Numbers, changed at random by all global generators and one that the data set has made."""

    def __init__(self, length: int = 11) -> None:
        super().__init__(length)
        self.generator = np.random.default_rng(4)

    def __getitem__(self, index: int) -> torch.Tensor:
        noise = [torch.rand(()).item(), random.random(), np.random.rand(), self.generator.random()]
        return torch.tensor([index, *noise], dtype=torch.float64)


class Stream(IterableDataset[torch.Tensor]):
    """Numbers of each worker's own, with noise, from a shuffle buffer."""

    def __init__(self) -> None:
        self.generator = random.Random(2)

    def __iter__(self) -> Iterator[torch.Tensor]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        numbers = list(range(8 + worker))
        while numbers:
            number = numbers.pop(self.generator.randrange(min(3, len(numbers))))
            yield torch.tensor([worker, number, torch.rand(()).item()])


class Counting(Sampler[int]):
    """Counts its passes, and orders the samples by that."""

    def __init__(self, length: int = 11) -> None:
        self.length = length
        self.passes = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        self.passes += 1
        yield from torch.randperm(self.length, generator=torch.Generator().manual_seed(self.passes)).tolist()


class Buckets(Sampler[list[int]]):
    """Batches of different lengths, from generators of Python and NumPy that it has made."""

    def __init__(self) -> None:
        self.lengths = random.Random(3)
        self.order = np.random.RandomState(3)

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(6):
            yield self.order.randint(0, 11, self.lengths.randint(1, 3)).tolist()


def as_saved(state: Any) -> Any:
    """The state as a checkpoint gives it back."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A boundary of a run."""

    state: Any
    random: RandomStates
    epoch: int
    seen: int
    """Of `Run.seen`, so much came before."""


class Run:
    """Runs the program; all it sees is in `seen`.

    Args:
        make: the loader.
        epochs: whose numbers are below this.
        leave_at: batches after which each pass is left.
    """

    def __init__(self, make: Callable[[], Any], epochs: int, leave_at: int | None = None) -> None:
        self.seen: list[Any] = []
        self.moments: list[Moment] = []
        self.epoch = 0
        self._epochs = epochs
        self._leave_at = leave_at
        self._is_watching = False
        seed(5)
        self.loader = make()
        self.tracked: TrackedLoader = track_loader(self.loader, self._at_boundary)

    def from_start(self) -> Run:
        """Runs it from the beginning, and keeps all boundaries and ends of epochs."""
        self._is_watching = True
        self._run()
        return self

    def from_moment(self, moment: Moment) -> Run:
        """Goes on where another run was."""
        self.tracked.load_state_dict(moment.state)
        moment.random.apply({})
        self.epoch = moment.epoch
        self._run()
        return self

    def _run(self) -> None:
        while self.epoch < self._epochs:
            for number, batch in enumerate(self.loader, start=self.tracked.skipped):
                self.seen.append([self.epoch, number, batch.tolist(), random.random(), torch.rand(2).tolist()])
                if number + 1 == self._leave_at:
                    break
            self.seen.append(["between epochs", np.random.rand(), torch.rand(()).item()])
            self.epoch += 1
            self.tracked.finish_epoch()
            self._at_boundary()
        self.seen.append(["at the end", torch.rand(()).item(), random.random(), np.random.rand()])

    def _at_boundary(self) -> None:
        if self._is_watching:
            state = as_saved(self.tracked.state_dict())
            random = RandomStates.from_state(as_saved(RandomStates.capture({}).to_state()))
            self.moments.append(Moment(state=state, random=random, epoch=self.epoch, seen=len(self.seen)))


def seed(number: int) -> None:
    """Seeds all global generators."""
    torch.manual_seed(number)
    random.seed(number)
    np.random.seed(number)


def own_generator(number: int = 9) -> torch.Generator:
    """One that the program gives to a loader or sampler."""
    return torch.Generator().manual_seed(number)


def with_workers(dataset: Any, **kw: Any) -> DataLoader[Any]:
    """A loader with two workers."""
    return DataLoader(dataset, num_workers=2, multiprocessing_context="fork", **kw)

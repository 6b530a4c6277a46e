"""A program that goes on from the place in a loader sees the batches and random numbers of one that never stopped."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from data_order_runs import Buckets, Counting, Noisy, Plain, Run, Stream, own_generator, seed, with_workers
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset, WeightedRandomSampler

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings(
    "ignore:This DataLoader will create:UserWarning", "ignore:'set_vital' is deprecated:UserWarning"
)


def stateful(dataset: Any, **kw: Any) -> Any:
    """torchdata's loader."""
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(dataset, **kw)


IN_THIS_PROCESS: dict[str, Callable[[], Any]] = {
    "in order": lambda: DataLoader(Noisy(), batch_size=3),
    "shuffled": lambda: DataLoader(Noisy(), batch_size=3, shuffle=True),
    "with a generator": lambda: DataLoader(Noisy(), batch_size=3, shuffle=True, generator=own_generator()),
    "drawn with replacement": lambda: DataLoader(
        Noisy(80), batch_size=20, sampler=RandomSampler(Plain(80), replacement=True, generator=own_generator())
    ),
    "weighted": lambda: DataLoader(Noisy(), batch_size=3, sampler=WeightedRandomSampler([1.0] * 11, 9)),
    "batch sampler": lambda: DataLoader(Noisy(), batch_sampler=BatchSampler(RandomSampler(Plain()), 2, True)),
    "batch sampler with generators": lambda: DataLoader(Noisy(), batch_sampler=Buckets()),
    "sampler that counts": lambda: DataLoader(Noisy(), batch_size=3, sampler=Counting()),
    "single samples": lambda: DataLoader(Noisy(5), batch_size=None, shuffle=True),
    "a part of the data": lambda: DataLoader(Subset(Noisy(), [1, 3, 5, 7, 9]), batch_size=2, shuffle=True),
    "stream": lambda: DataLoader(Stream(), batch_size=3),
}

BY_WORKERS: dict[str, Callable[[], Any]] = {
    "workers": lambda: with_workers(Noisy(), batch_size=3, shuffle=True, generator=own_generator()),
    "workers for a stream": lambda: with_workers(Stream(), batch_size=3),
    "workers that persist": lambda: with_workers(Plain(), batch_size=3, shuffle=True, persistent_workers=True),
    "workers that persist, for batches": lambda: with_workers(
        Plain(), batch_sampler=Buckets(), persistent_workers=True
    ),
}

OF_TORCHDATA: dict[str, Callable[[], Any]] = {
    "stateful": lambda: stateful(Noisy(), batch_size=3, shuffle=True),
    "stateful with a generator": lambda: stateful(Noisy(), batch_size=3, shuffle=True, generator=own_generator()),
    "stateful, its workers persist": lambda: stateful(
        Plain(), batch_size=3, shuffle=True, num_workers=2, multiprocessing_context="fork", persistent_workers=True
    ),
}

needs_torchdata = pytest.mark.skipif(find_spec("torchdata") is None, reason="torchdata is not installed")


def assert_every_resumed_run_sees_the_rest(make: Callable[[], Any], epochs: int, leave_at: int | None = None) -> None:
    whole = Run(make, epochs, leave_at).from_start()
    batches = sum(line[0] in range(epochs) for line in whole.seen)
    assert len(whole.moments) >= batches + epochs
    for moment in whole.moments:
        resumed = Run(make, epochs, leave_at)
        seed(77)  # the resumed program has drawn other numbers so far
        assert resumed.from_moment(moment).seen == whole.seen[moment.seen :], moment.seen


@pytest.mark.parametrize("kind", IN_THIS_PROCESS)
def test_from_every_boundary_the_rest_is_the_same(kind: str) -> None:
    assert_every_resumed_run_sees_the_rest(IN_THIS_PROCESS[kind], epochs=3)


@pytest.mark.parametrize("kind", BY_WORKERS)
def test_from_every_boundary_the_rest_is_the_same_with_workers(kind: str) -> None:
    assert_every_resumed_run_sees_the_rest(BY_WORKERS[kind], epochs=2)


@needs_torchdata
@pytest.mark.parametrize("kind", OF_TORCHDATA)
def test_from_every_boundary_the_rest_is_the_same_for_a_loader_with_a_state(kind: str) -> None:
    assert_every_resumed_run_sees_the_rest(OF_TORCHDATA[kind], epochs=2)


@pytest.mark.parametrize("kind", ["shuffled", "workers that persist", "stateful"])
def test_a_pass_that_the_program_leaves_early_is_over(kind: str) -> None:
    if kind == "stateful":
        pytest.importorskip("torchdata")
    make = {**IN_THIS_PROCESS, **BY_WORKERS, **OF_TORCHDATA}[kind]
    assert_every_resumed_run_sees_the_rest(make, epochs=2, leave_at=2)

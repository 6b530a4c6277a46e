"""`should_stop()` becomes true at the same call on all ranks, whichever of them the signal came to, and when."""

from __future__ import annotations

import itertools
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest
from rank_threads import ranks_of, run_threads
from ranks import run_ranks, values_of
from torch.distributed import HashStore

from sucrose.errors import RankError
from sucrose.state.collective.agreed_calls import AgreedCalls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUCROSE_RANK_TIMEOUT_S", "20")


def calls_until_stop(world_size: int, seed: int, *, lockstep: bool) -> list[int]:
    """At which call each rank stops; some of them are asked to, at random moments. Ranks are threads."""
    store = HashStore()
    step = threading.Barrier(world_size)
    choice = random.Random(seed)
    asked = {rank: choice.randrange(1, 20) for rank in choice.sample(range(world_size), choice.randint(1, world_size))}
    pauses = [choice.random() / 500 for _ in range(world_size)]

    def rank_runs(rank: int) -> int:
        calls = AgreedCalls(ranks_of(store, rank, world_size))
        for number in itertools.count(1):
            if asked.get(rank) == number:
                calls.request("stop")
            if "stop" in calls.call():
                return number
            if lockstep:
                step.wait(60)
            time.sleep(pauses[rank] * choice.random())
        raise AssertionError("there is no last number")

    return run_threads(world_size, rank_runs)


@pytest.mark.parametrize("lockstep", [True, False], ids=["lockstep", "each by itself"])
@pytest.mark.parametrize("world_size", [2, 4])
def test_all_stop_at_one_call_whenever_and_wherever_it_was_asked_for(world_size: int, lockstep: bool) -> None:
    for seed in range(25):
        stops = calls_until_stop(world_size, seed, lockstep=lockstep)
        assert len(set(stops)) == 1, (seed, stops)
        assert isinstance(stops[0], int), stops


def test_several_requests_are_each_due_at_one_call() -> None:
    store = HashStore()

    def rank_runs(rank: int) -> list[tuple[int, str]]:
        calls = AgreedCalls(ranks_of(store, rank, 3))
        due = []
        for number in range(1, 60):
            if number in (3 + rank, 4):
                calls.request(f"save {rank} at {number}")
            due += [(number, what) for what in calls.call()]
            time.sleep(0.0005 * rank)
        return due

    first, second, third = run_threads(3, rank_runs)
    assert first == second == third
    assert len(first) == 5
    counters = {"count", "any"}
    assert store.num_keys() <= len(counters)  # nothing is left of the requests


def test_a_rank_that_makes_no_more_calls_is_named_after_the_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    store = HashStore()
    calls = [AgreedCalls(ranks_of(store, rank, 3)) for rank in range(3)]
    calls[0].request("stop")
    assert calls[0].call() == calls[1].call() == []
    monkeypatch.setenv("SUCROSE_RANK_TIMEOUT_S", "0.2")
    with pytest.raises(RankError, match=r"rank 2 made no call for 0\.2 s") as caught:
        calls[0].call()
    assert caught.value.ranks == (2,)


def loop(rank: int, world_size: int, lockstep: bool) -> int:
    import os
    import signal

    import torch
    import torch.distributed as dist

    from sucrose import should_stop

    steps = 0
    while not should_stop():
        if lockstep:
            dist.all_reduce(torch.ones(10))
        steps += 1
        if rank == 1 and steps == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        assert steps < 100_000
    return steps


@pytest.mark.parametrize("lockstep", [True, False], ids=["lockstep", "each by itself"])
def test_after_sigterm_to_one_rank_all_leave_their_loops_at_the_same_step(tmp_path: Path, lockstep: bool) -> None:
    outcomes = run_ranks(4 if lockstep else 2, loop, tmp_path, arguments=[lockstep], store="torchrun")
    assert [one.error for one in outcomes] == [None] * len(outcomes)
    steps = {one.value for one in outcomes}
    assert len(steps) == 1
    assert steps.pop() >= 7
    assert [one.status for one in outcomes] == [0, 143, 0, 0][: len(outcomes)]


def leave_early(rank: int, world_size: int) -> bool:
    import os
    import signal

    from sucrose import should_stop

    assert not should_stop()
    if rank == 1:
        return False
    wait_for_point(1, "the end")  # noqa: F821  # run_ranks has it
    os.kill(os.getpid(), signal.SIGTERM)
    should_stop()
    return should_stop()


def test_a_rank_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    outcomes = run_ranks(2, leave_early, tmp_path, store="torchrun")
    assert [(one.error, one.value) for one in outcomes] == [(None, True), (None, False)]
    assert values_of(outcomes[1:]) == [False]

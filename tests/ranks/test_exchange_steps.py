"""What ranks tell each other, with threads that stand for ranks."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from rank_threads import exchange_of, run_threads
from torch.distributed import FileStore, HashStore, PrefixStore, TCPStore

from sucrose.errors import RankError
from sucrose.ranks import Exchange, Ranks

if TYPE_CHECKING:
    from pathlib import Path

PART_NBYTES = 4 << 20


@pytest.fixture(params=["hash", "file", "tcp", "prefix"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "file":
        return FileStore(str(tmp_path / "store"), -1)
    if request.param == "tcp":
        return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    return PrefixStore("job/", HashStore()) if request.param == "prefix" else HashStore()


def test_rank_0_gets_a_value_of_each_rank_in_their_order(store: Any) -> None:
    def run(rank: int) -> Any:
        with exchange_of(store, rank, 3) as exchange:
            return exchange.gather("names", b"rank %d" % rank)

    assert run_threads(3, run) == [[b"rank 0", b"rank 1", b"rank 2"], None, None]


def test_all_ranks_get_what_rank_0_tells(store: Any) -> None:
    def run(rank: int) -> Any:
        with exchange_of(store, rank, 3) as exchange:
            return exchange.broadcast("plan", b"the plan" if rank == 0 else None)

    assert run_threads(3, run) == [b"the plan"] * 3


@pytest.mark.parametrize("nbytes", [0, PART_NBYTES // 2, PART_NBYTES // 2 + 1, 2 * PART_NBYTES, 20_000_000])
def test_values_of_any_size_arrive(store: Any, nbytes: int) -> None:
    value = bytes(range(256)) * (nbytes // 256) + b"x" * (nbytes % 256)

    def run(rank: int) -> Any:
        with exchange_of(store, rank, 2) as exchange:
            gathered = exchange.gather("big", value)
            return (gathered is None or gathered == [value, value]) and exchange.broadcast("back", value) == value

    assert run_threads(2, run) == [True, True]


def test_an_equal_value_of_many_ranks_travels_once(store: Any) -> None:
    values = [b"most", b"most", b"another" * 1_000_000, b"most", b"third", b"another" * 1_000_000]

    def run(rank: int) -> Any:
        with exchange_of(store, rank, 6) as exchange:
            return exchange.gather_distinct("replicated", values[rank])

    assert run_threads(6, run) == [values, None, None, None, None, None]


def test_nothing_stays_in_the_store_after_an_operation(store: Any) -> None:
    def run(rank: int, number: int) -> None:
        with exchange_of(store, rank, 3, number=number) as exchange:
            exchange.gather("sizes", bytes(3 * PART_NBYTES))
            exchange.gather_distinct("descriptions", b"of rank %d" % (rank // 2))
            exchange.broadcast("plan", bytes(3 * PART_NBYTES))
            exchange.agree("loaded")

    before = store.num_keys()
    for number in range(1, 4):
        assert run_threads(3, lambda rank, number=number: run(rank, number)) == [None] * 3
    assert store.num_keys() == before


def test_the_failure_of_one_rank_reaches_all_with_its_text(store: Any) -> None:
    def run(rank: int) -> None:
        with exchange_of(store, rank, 3) as exchange:
            exchange.agree("begun")
            if rank == 2:
                raise OSError(28, "No space left on device")
            exchange.agree("written")

    outcomes = run_threads(3, run)

    assert isinstance(outcomes[2], OSError)
    for error in outcomes[:2]:
        assert isinstance(error, RankError)
        assert error.ranks == (2,)
        assert "taking a snapshot failed on rank 2: OSError: [Errno 28] No space left on device" in str(error)


def test_an_operation_that_failed_on_all_ranks_leaves_no_failure_to_the_next(store: Any) -> None:
    def run(rank: int) -> Any:
        for number in (1, 2):
            try:
                with exchange_of(store, rank, 2, number=number) as exchange:
                    if number == 1 and rank == 1:
                        raise ValueError("once")
                    exchange.agree("begun")
            except (ValueError, RankError):
                assert number == 1
        return number

    assert run_threads(2, run) == [2, 2]


def test_a_rank_that_never_comes_is_named_to_all_others(store: Any) -> None:
    def run(rank: int) -> None:
        if rank != 1:
            with exchange_of(store, rank, 3, timeout_s=2) as exchange:
                exchange.agree("matched")

    outcomes = run_threads(3, run)

    assert [outcomes[0].ranks, outcomes[2].ranks] == [(1,), (1,)]
    assert "nothing was heard of rank 1 for 2 s" in str(outcomes[2])
    assert "SUCROSE_RANK_TIMEOUT_S" in str(outcomes[2])


def test_a_rank_that_comes_late_hears_that_the_others_have_given_it_up(store: Any) -> None:
    def run(rank: int) -> None:
        with exchange_of(store, rank, 2, timeout_s=0.3) as exchange:
            exchange.agree("matched")

    with pytest.raises(RankError) as first:
        run(0)
    with pytest.raises(RankError) as second:
        run(1)

    assert first.value.ranks == second.value.ranks == (1,)


def test_a_rank_that_is_at_work_is_waited_for(store: Any) -> None:
    def run(rank: int) -> Any:
        with exchange_of(store, rank, 2, timeout_s=4) as exchange:  # a loaded machine may stand still for seconds
            if rank == 1:
                until = time.monotonic() + 6
                while time.monotonic() < until:
                    exchange.alive()
                    time.sleep(0.01)
            return exchange.gather("written", b"%d" % rank)

    assert run_threads(2, run) == [[b"0", b"1"], None]


def test_a_rank_that_waits_no_longer_names_whom_it_has_waited_for(store: Any) -> None:
    exchange = exchange_of(store, 1, 2)
    waiting = threading.Event()

    def give_up() -> None:
        waiting.wait(60)
        exchange.give_up_waiting()

    other = threading.Thread(target=give_up)
    other.start()
    waiting.set()
    with pytest.raises(RankError, match="no longer waited for rank 0") as caught:
        exchange.broadcast("outcome", None)
    assert caught.value.ranks == (0,)
    other.join()


def test_ranks_that_make_different_calls_hear_which(store: Any) -> None:
    def run(rank: int) -> None:
        what = "restoring" if rank == 1 else "taking"
        with exchange_of(store, rank, 2, what=what) as exchange:
            exchange.agree("begun")

    outcomes = run_threads(2, run)

    for error in outcomes:
        assert isinstance(error, RankError)
        assert error.ranks == (1,)
        assert "rank 0 is taking (gathers 'begun'), while rank 1 is restoring (gathers 'begun')" in str(error)


def test_ranks_whose_steps_differ_do_not_wait_for_ever(store: Any) -> None:
    def run(rank: int) -> None:
        with exchange_of(store, rank, 2, timeout_s=60) as exchange:
            if rank == 0:
                exchange.gather("sizes", b"")
            else:
                exchange.broadcast("plan", None)

    outcomes = run_threads(2, run)

    for error in outcomes:
        assert isinstance(error, RankError)
        assert "out of step" in str(error)


def test_operations_of_one_group_may_overlap(store: Any) -> None:
    def run(rank: int) -> Any:
        with exchange_of(store, rank, 2, number=1) as first, exchange_of(store, rank, 2, number=2) as second:
            first.agree("a")
            second.agree("a")
            return second.broadcast("b", b"second"), first.broadcast("b", b"first")

    assert run_threads(2, run) == [(b"second", b"first")] * 2


def test_one_rank_needs_no_store() -> None:
    with Ranks.of().begin("taking a snapshot") as exchange:
        assert isinstance(exchange, Exchange)
        assert (exchange.rank, exchange.world_size) == (0, 1)
        assert exchange.gather("a", b"1") == exchange.gather_distinct("a", b"1") == [b"1"]
        assert exchange.broadcast("b", b"2") == b"2"
        exchange.agree("c")
        exchange.alive()

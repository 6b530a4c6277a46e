"""Ranks that are processes, with gloo: what becomes of the others when one ends, and what a program does meanwhile."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from ranks import point, run_ranks, values_of, wait_for_point

from sucrose.errors import RankError

if TYPE_CHECKING:
    from pathlib import Path


def three_steps(rank: int, world_size: int) -> None:
    from sucrose.ranks import Ranks

    with Ranks.of().begin("taking a snapshot", 5) as exchange:
        exchange.agree("begun")
        point("before")
        exchange.gather("written", b"")
        point("between")
        exchange.broadcast("outcome", b"")
        point("after")
    with Ranks.of().begin("taking a snapshot", 5) as exchange:
        exchange.agree("begun")


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_a_killed_rank_is_named_by_all_others(tmp_path: Path, place: str) -> None:
    outcomes = run_ranks(3, three_steps, tmp_path, kills={2: place}, store="torchrun")

    assert outcomes[2].status == -signal.SIGKILL
    for outcome in outcomes[:2]:
        assert isinstance(outcome.error, RankError)
        assert outcome.error.ranks == (2,)


@pytest.mark.parametrize("place", ["before", "between", "after"])
def test_the_end_of_the_rank_that_keeps_the_store_ends_the_call_of_all(tmp_path: Path, place: str) -> None:
    outcomes = run_ranks(3, three_steps, tmp_path, kills={0: place})

    assert outcomes[0].status == -signal.SIGKILL
    for outcome in outcomes[1:]:
        assert isinstance(outcome.error, RankError)
        assert outcome.error.ranks == (0,)
        assert "store of the process group is gone" in str(outcome.error)


def test_rank_0_may_end_right_after_the_call(tmp_path: Path) -> None:
    def program(rank: int, world_size: int) -> bytes:
        import time

        from sucrose.ranks import Ranks

        with Ranks.of().begin("taking a snapshot") as exchange:
            exchange.agree("begun")
            if rank > 0:
                time.sleep(0.5)
            return exchange.broadcast("outcome", b"committed")

    assert values_of(run_ranks(3, program, tmp_path)) == [b"committed"] * 3


def test_groups_may_be_used_in_turn_and_made_anew(tmp_path: Path) -> None:
    def program(rank: int, world_size: int, folder: str) -> list[object]:
        import torch.distributed as dist

        from sucrose.errors import RankError
        from sucrose.ranks import Ranks

        seen: list[object] = []
        for turn in range(2):
            pairs = [dist.new_group([0, 1]), dist.new_group([1, 2])]
            for pg in (None, *pairs, None):
                try:
                    ranks = Ranks.of(pg)
                except RankError:
                    seen.append("outside")
                    continue
                with ranks.begin("taking a snapshot") as exchange:
                    value = b"%d" % dist.get_rank()
                    gathered = exchange.gather("ranks", value)
                    seen.append((ranks.rank, ranks.global_ranks, gathered, exchange.broadcast("first", value)))
            dist.barrier()
            dist.destroy_process_group()
            dist.init_process_group("gloo", f"file://{folder}/{turn}", rank=rank, world_size=world_size)
        return seen

    values = values_of(run_ranks(3, program, tmp_path, arguments=[str(tmp_path)], store="torchrun"))

    everyone = (0, (0, 1, 2), [b"0", b"1", b"2"], b"0")
    assert values[0] == [everyone, (0, (0, 1), [b"0", b"1"], b"0"), "outside", everyone] * 2
    others = (2, (0, 1, 2), None, b"0")
    assert values[2] == [others, "outside", (1, (1, 2), None, b"1"), others] * 2


def test_a_thousand_operations_leave_the_store_as_it_was(tmp_path: Path) -> None:
    def program(rank: int, world_size: int) -> tuple[int, int]:
        import torch.distributed as dist

        from sucrose.ranks import Ranks

        store = dist.distributed_c10d._get_default_store()
        counts = []
        for turns in (1, 1000):
            for _ in range(turns):
                with Ranks.of().begin("taking a snapshot") as exchange:
                    exchange.gather_distinct("descriptions", b"equal")
                    exchange.broadcast("plan", b"plan")
            dist.barrier()
            counts.append(store.num_keys())
            dist.barrier()
        return counts[0], counts[1]

    [(before, after), _] = values_of(run_ranks(2, program, tmp_path))

    assert after <= before


def test_an_operation_in_the_background_leaves_the_group_to_the_program(tmp_path: Path) -> None:
    def program(rank: int, world_size: int) -> tuple[int, bytes]:
        from concurrent.futures import ThreadPoolExecutor

        import torch
        import torch.distributed as dist

        from sucrose.ranks import Exchange, Ranks

        def finish(exchange: Exchange) -> bytes:
            with exchange:
                for _ in range(20):
                    exchange.agree("written")
                return exchange.broadcast("outcome", b"committed")

        total = torch.zeros(1)
        with ThreadPoolExecutor(1) as background:
            pending = background.submit(finish, Ranks.of().begin("taking a snapshot"))
            for _ in range(20):
                dist.all_reduce(total.add_(1))
                dist.barrier()
                with Ranks.of().begin("restoring") as exchange:
                    exchange.agree("matched")
            return int(total), pending.result()

    first, second = values_of(run_ranks(2, program, tmp_path))

    assert first == second == (2097150, b"committed")


def test_a_forked_child_is_refused_and_disturbs_nobody(tmp_path: Path) -> None:
    def program(rank: int, world_size: int) -> list[object]:
        import os

        from sucrose.errors import ForkError
        from sucrose.ranks import Ranks

        with Ranks.of().begin("taking a snapshot") as exchange:
            exchange.agree("begun")
            child = os.fork()
            if child == 0:
                try:
                    Ranks.of()
                except ForkError:
                    exchange.fail(ValueError("of the child"))
                    exchange.close()
                    os._exit(7)
                os._exit(1)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            exchange.agree("written")
        return [status]

    assert values_of(run_ranks(2, program, tmp_path)) == [[7], [7]]


def test_an_interrupt_ends_a_wait_and_the_others_hear_of_it(tmp_path: Path) -> None:
    def program(rank: int, world_size: int) -> None:
        import os
        import signal
        import threading

        from sucrose.ranks import Ranks

        with Ranks.of().begin("taking a snapshot") as exchange:
            if rank == 0:
                threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            else:
                wait_for_point(0, "interrupted")
            try:
                exchange.gather("written", b"")
            finally:
                point("interrupted")
            exchange.broadcast("outcome", None)

    first, second = run_ranks(2, program, tmp_path, store="torchrun")

    assert isinstance(first.error, KeyboardInterrupt)
    assert isinstance(second.error, RankError)
    assert "taking a snapshot failed on rank 0: KeyboardInterrupt" in str(second.error)

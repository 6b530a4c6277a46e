"""Every rank has its own states in one generation: saved by all or none, found again by the ranks they belong to."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from ranks import run_ranks, values_of

from sucrose import Catalog
from sucrose.errors import ConfigError, RankError

if TYPE_CHECKING:
    from pathlib import Path

    from ranks import RankOutcome


def run(
    world_size: int, program: Any, folder: Path, *arguments: Any, kills: dict[int, str] | None = None, **options: str
) -> list[RankOutcome]:
    environment = {
        "HOME": str(folder),
        "LATTICE_CHECKPOINT_CONFIG": f"root={folder}/states",
        "SUCROSE_LAST_SAVE_WAIT_S": "20",
        "SUCROSE_RANK_TIMEOUT_S": "20",
        **options,
    }
    return run_ranks(world_size, program, folder, arguments=arguments, environment=environment, kills=kills)


def steps_of(folder: Path) -> list[int]:
    return Catalog(folder / "states").steps()


def count_up(rank: int, world_size: int, *extra: str) -> dict[str, Any]:
    """What this rank finds; then it goes on."""
    import torch

    from sucrose import StateManagerGroup
    from sucrose.errors import StateMismatchError

    group = StateManagerGroup()
    found = {}
    for key in ("shared", "own", *extra):
        group.register(key)
        try:
            found[key] = group.get(key)
        except StateMismatchError as error:
            found[key] = str(error)
    shared = found["shared"] or {"step": 0, "weights": torch.zeros(5000)}
    before = {"shared": shared["step"], **{key: found[key] for key in ("own", *extra)}}
    shared["step"] += 1
    shared["weights"] += 1
    group.update("shared", shared)
    own = {"rank": rank, "step": shared["step"]}
    group.update("own", own)
    for key in extra:
        group.update(key, torch.full((3,), float(rank)))
    if shared["step"] == 1:
        assert group.save()
        group.async_save().wait()
    return before  # and the end of the program saves


def test_a_restart_with_as_many_ranks_finds_all_and_with_another_number_what_is_the_same_on_all(tmp_path: Path) -> None:
    assert values_of(run(1, count_up, tmp_path)) == [{"shared": 0, "own": None}]
    assert steps_of(tmp_path) == [1, 2, 3]
    found = values_of(run(2, count_up, tmp_path))
    assert found == [{"shared": 1, "own": {"rank": 0, "step": 1}}] * 2  # what one rank has saved is anybody's
    assert values_of(run(2, count_up, tmp_path)) == [
        {"shared": 2, "own": {"rank": 0, "step": 2}},
        {"shared": 2, "own": {"rank": 1, "step": 2}},
    ]
    for one in values_of(run(3, count_up, tmp_path)):
        assert one["shared"] == 3
        assert "was saved per rank, by 2 ranks, and now there are 3" in one["own"]
    assert steps_of(tmp_path) == [1, 2, 3, 4, 5, 6]


def fail_apart(rank: int, world_size: int) -> list[str]:
    import threading

    from sucrose import StateManagerGroup
    from sucrose.state.collective.job import ranks_of_job

    group = StateManagerGroup()
    seen = []

    def attempt() -> None:
        try:
            seen.append(str(group.save()))
        except Exception as error:  # noqa: BLE001  # whichever it is, it is looked at
            seen.append(f"{type(error).__name__} {getattr(error, 'ranks', '')}")

    group.register("progress")
    group.update("progress", {"rank": rank})
    attempt()
    if rank == 1:
        group.update("progress", threading.Lock())  # cannot be pickled
    attempt()
    group.update("progress", {"rank": rank})
    if rank == 0:
        group.register("not yet")
    attempt()
    if rank == 0:
        group.delete("not yet")
    attempt()
    rounds = [one for one in (1, 2, 3, 4) if ranks_of_job().keys(f"call-{one}").has("verdict")]
    seen.append(f"rounds {rounds}")
    group.delete("*")
    return seen


def test_a_rank_that_cannot_save_keeps_all_from_it_and_they_stay_in_step(tmp_path: Path) -> None:
    first, second = values_of(run(2, fail_apart, tmp_path))
    left = "rounds [4]"  # nothing piles up in the store
    assert first == ["True", "RankError (1,)", "False", "True", left]
    assert second == ["True", "UnsupportedError ", "False", "True", left]


def end_apart(rank: int, world_size: int, how: str) -> None:
    import os
    import signal
    import time

    import torch.distributed as dist

    from sucrose import StateManagerGroup

    group = StateManagerGroup()
    group.register("progress")
    group.update("progress", {"rank": rank})
    dist.barrier()
    if how == "killed":
        point("before the end")  # noqa: F821  # run_ranks has it
    if how == "raises" and rank == 1:
        raise ValueError("of the program")
    if how == "held up":
        dist.barrier()
        if rank == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        dist.barrier()  # a call in which no handler of Python's runs
    if how == "late" and rank == 1:
        wait_for_point(0, "the end")  # noqa: F821
    if how in ("raises", "late") and rank == 0:
        dist.destroy_process_group()


def test_where_a_rank_does_not_come_to_the_last_save_nobody_saves_and_the_log_says_who(tmp_path: Path) -> None:
    impatient = {"SUCROSE_LAST_SAVE_WAIT_S": "0.5"}
    for kills, how in (({1: "before the end"}, "killed"), ({}, "late")):
        first, second = run(2, end_apart, tmp_path, how, kills=kills, **impatient)
        assert first.status == 0
        assert "called off: rank 1 did not come within 0.5 s" in first.stderr
        assert second.status == (-signal.SIGKILL if kills else 0)
        assert kills or "the states are not saved" in second.stderr
        assert steps_of(tmp_path) == []


def test_where_one_fails_and_the_others_end_as_well_the_states_of_all_are_saved(tmp_path: Path) -> None:
    first, second = run(2, end_apart, tmp_path, "raises")
    assert (first.status, second.status) == (0, 1)
    assert steps_of(tmp_path) == [1]


def test_a_rank_that_sigterm_cannot_reach_takes_part_nevertheless(tmp_path: Path) -> None:
    first, _ = run(2, end_apart, tmp_path, "held up")
    assert first.status == 128 + signal.SIGTERM
    assert first.stderr == ""
    assert steps_of(tmp_path) == [1]


def save_by_itself(rank: int, world_size: int, asks: bool) -> None:
    """Takes steps until there are two more generations than before."""
    import time

    import torch
    import torch.distributed as dist

    from sucrose import Catalog, StateManagerGroup, should_stop
    from sucrose.state.configured import configured_checkpoints

    group = StateManagerGroup()
    group.register("progress")
    progress = group.get("progress") or {"step": 0}
    group.update("progress", progress)
    catalog = Catalog(configured_checkpoints().where)
    wanted = len(catalog.steps()) + 2
    is_over = torch.zeros(1)
    while not is_over:
        assert not asks or not should_stop()
        is_over += rank == 0 and len(catalog.steps()) >= wanted
        dist.all_reduce(is_over)
        progress["step"] += 1
        time.sleep(0.002)
    dist.barrier()


def test_periodic_saves_are_of_the_same_step_on_all_ranks_that_ask_should_stop(tmp_path: Path) -> None:
    config = f"root={tmp_path}/states,periodic_saving=enabled,periodic_saving_interval=0.05,atexit_saving=disabled"
    for asks in (True, False):
        outcomes = run(2, save_by_itself, tmp_path, asks, LATTICE_CHECKPOINT_CONFIG=config)
        assert [one.error for one in outcomes] == [None, None], [one.stderr for one in outcomes]
        generations = Catalog(tmp_path / "states").generations()
        assert len(generations) >= (2 if asks else 4)
        if asks:
            for generation in generations:
                manifest = generation.snapshot().get_manifest()
                assert "1/states/progress/pickle" not in manifest  # equal on both, and so there once


def register(rank: int, world_size: int) -> None:
    from sucrose import StateManagerGroup

    StateManagerGroup().register("progress")


def test_states_of_several_ranks_are_refused_where_they_are_kept_by_a_server(tmp_path: Path) -> None:
    config = "job_id=a,ckpt_service_endpoint=127.0.0.1"
    outcomes = run(2, register, tmp_path, LATTICE_CHECKPOINT_TYPE="remote", LATTICE_CHECKPOINT_CONFIG=config)
    for outcome in outcomes:
        assert isinstance(outcome.error, ConfigError)
        assert "LATTICE_CHECKPOINT_TYPE" in str(outcome.error)
    assert not any(isinstance(one.error, RankError) for one in outcomes)

"""A rank dies or fails while a snapshot is taken or restored: the others hear of it, and nothing is lost (F22)."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from ranks import run_ranks

from sucrose import Snapshot
from sucrose.errors import CancelledError, RankError

if TYPE_CHECKING:
    from pathlib import Path

    from ranks import RankOutcome

ENVIRONMENT = {"SUCROSE_RANK_TIMEOUT_S": "2"}


def replace_snapshot(rank: int, world_size: int, path: str, how: str) -> dict[str, Any]:
    """Takes a snapshot, which goes well, and another in its place, in the middle of which something happens."""
    import threading

    import torch

    import sucrose.snapshot.started_take as started_take
    from sucrose import Snapshot, StateDict
    from sucrose.snapshot.data_writes import DataWrites
    from sucrose.storage.local import StagedDirectory

    state = StateDict(mine=torch.full((1000,), float(rank)), same=torch.ones(1000))
    Snapshot.take(path, {"state": state}, replicated=["state/same"])
    state["mine"] += 100

    def patch(owner: Any, name: str, place: str, *, after: bool = False) -> None:
        original = getattr(owner, name)

        def patched(*args: Any, **keywords: Any) -> Any:
            if not after:
                point(place)  # noqa: F821  # run_ranks has it
            result = original(*args, **keywords)
            if after:
                point(place)  # noqa: F821
            return result

        setattr(owner, name, patched)

    patch(started_take, "gather_parts", "written")
    patch(DataWrites, "submit", "writing", after=True)
    patch(StagedDirectory, "commit", "in place", after=True)
    point("before")  # noqa: F821
    if how == "raises" and rank == 1:
        state["mine"] = torch.empty(3, device="meta")
    if how == "cancelled":
        gate = threading.Event()
        wait = DataWrites.wait
        DataWrites.wait = lambda self, timeout_s=None: gate.is_set() and wait(self, timeout_s)
        pending = Snapshot.async_take(path, {"state": state}, replicated=["state/same"], overwrite=True)
        if rank == 1:
            pending.cancel()
        gate.set()
        pending.wait()
    else:
        Snapshot.take(path, {"state": state}, replicated=["state/same"], overwrite=True)
    return {"mine": state["mine"].tolist()[:1]}


def run(tmp_path: Path, how: str = "", kills: dict[int, str] | None = None) -> tuple[list[RankOutcome], Path]:
    path = tmp_path / "folder" / "snapshot"
    outcomes = run_ranks(
        2,
        replace_snapshot,
        tmp_path,
        arguments=[str(path), how],
        kills=kills,
        store="torchrun",
        environment=ENVIRONMENT,
    )
    return outcomes, path


def assert_old_is_intact(path: Path) -> None:
    snapshot = Snapshot(path)
    assert snapshot.verify()
    for rank in (0, 1):
        assert snapshot.read_object(f"{rank}/state/mine").unique().tolist() == [rank]


@pytest.mark.parametrize("place", ["before", "writing", "written"])
@pytest.mark.parametrize("dead", [0, 1])
def test_the_others_fail_and_name_the_rank_that_has_died(tmp_path: Path, dead: int, place: str) -> None:
    outcomes, path = run(tmp_path, kills={dead: place})
    assert outcomes[dead].status == -signal.SIGKILL
    alive = outcomes[1 - dead]
    assert isinstance(alive.error, RankError)
    assert alive.error.ranks == (dead,)
    assert f"rank {dead}" in str(alive.error)
    assert_old_is_intact(path)
    if dead == 1:
        assert os.listdir(path.parent) == ["snapshot"]


def test_a_commit_that_rank_0_cannot_tell_of_any_more_is_found_by_the_others(tmp_path: Path) -> None:
    outcomes, path = run(tmp_path, kills={0: "in place"})
    assert outcomes[0].status == -signal.SIGKILL
    assert outcomes[1].value == {"mine": [101.0]}
    snapshot = Snapshot(path)
    assert snapshot.verify()
    assert snapshot.read_object("1/state/mine").unique().tolist() == [101]


def test_the_rank_that_fails_raises_its_own_error_and_the_others_one_that_names_it(tmp_path: Path) -> None:
    outcomes, path = run(tmp_path, "raises")
    assert type(outcomes[1].error).__name__ == "UnsupportedError"
    assert "meta device" in str(outcomes[1].error)
    assert isinstance(outcomes[0].error, RankError)
    assert outcomes[0].error.ranks == (1,)
    assert "UnsupportedError" in str(outcomes[0].error)
    assert_old_is_intact(path)
    assert os.listdir(path.parent) == ["snapshot"]


def test_cancelling_on_one_rank_ends_the_save_on_all(tmp_path: Path) -> None:
    outcomes, path = run(tmp_path, "cancelled")
    assert isinstance(outcomes[1].error, CancelledError)
    assert isinstance(outcomes[0].error, RankError)
    assert outcomes[0].error.ranks == (1,)
    assert "cancelled" in str(outcomes[0].error)
    assert_old_is_intact(path)
    assert os.listdir(path.parent) == ["snapshot"]


def fail_apart(rank: int, world_size: int, folder: str) -> list[str]:
    import os
    import time

    import torch

    import sucrose.snapshot.collective.folder as folders
    import sucrose.snapshot.take as take
    from sucrose import Snapshot, StateDict

    seen = []

    def attempt(name: str) -> None:
        try:
            Snapshot.take(f"{folder}/{name}", {"state": StateDict(mine=torch.ones(10), pair=(1, 2))})
        except Exception as error:  # noqa: BLE001  # whichever it is, it is looked at
            seen.append(type(error).__name__)
        else:
            seen.append("taken")

    if rank == 1:
        os.environ["SUCROSE_SIGNING_KEY"] = "too short"
    attempt("signed")
    os.environ.pop("SUCROSE_SIGNING_KEY", None)
    attempt("after")

    store_objects, join = take.store_objects, folders.JoinedDirectory

    def wait_until_rank_0_has_cleaned_up() -> None:
        while any(name.startswith(".") for name in os.listdir(folder)):
            time.sleep(0.002)

    def failing(*args: Any) -> Any:
        if rank == 0:
            raise PermissionError(13, "not allowed")
        wait_until_rank_0_has_cleaned_up()
        return store_objects(*args)

    def joining_late(*args: Any) -> Any:
        wait_until_rank_0_has_cleaned_up()
        return join(*args)

    take.store_objects = failing
    attempt("removed")
    folders.JoinedDirectory = joining_late
    attempt("removed before it was joined")
    return seen


def test_an_argument_that_is_wrong_on_one_rank_fails_all_at_once_and_leaves_them_in_step(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    outcomes = run_ranks(2, fail_apart, tmp_path, arguments=[str(folder)], environment=ENVIRONMENT)
    assert [one.error for one in outcomes] == [None, None]
    assert [one.value[:2] for one in outcomes] == [["RankError", "taken"], ["ConfigError", "taken"]]
    for removed in (2, 3):
        # Not that a folder is missing.
        assert [one.value[removed] for one in outcomes] == ["PermissionError", "RankError"]
    assert os.listdir(folder) == ["after"]


def leave_at_once(rank: int, world_size: int, path: str) -> None:
    import gc

    import torch
    import torch.distributed as dist

    from sucrose import Snapshot, StateDict
    from sucrose.snapshot.data_writes import DataWrites

    if rank == 1:
        wait = DataWrites.wait

        def wait_for_the_other(self: Any, timeout_s: float | None = None) -> bool:
            wait_for_point(0, "destroyed")  # noqa: F821  # run_ranks has it
            return wait(self, timeout_s)

        DataWrites.wait = wait_for_the_other
    Snapshot.async_take(path, {"state": StateDict(mine=torch.full((10,), float(rank)))})
    dist.destroy_process_group()
    gc.collect()
    point("destroyed")  # noqa: F821


def test_a_pending_snapshot_outlives_the_process_group(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "step"
    outcomes = run_ranks(2, leave_at_once, tmp_path, arguments=[str(path)], environment=ENVIRONMENT)
    assert [(one.status, one.stderr) for one in outcomes] == [(0, ""), (0, "")]
    assert [Snapshot(path).read_object(f"{rank}/state/mine").unique().tolist() for rank in (0, 1)] == [[0], [1]]

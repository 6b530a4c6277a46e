"""A catalog of several ranks: rank 0 decides, all get the same generation, and none is half a generation."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
from ranks import run_ranks, values_of

from sucrose import Catalog
from sucrose.errors import RankError

if TYPE_CHECKING:
    from pathlib import Path


def save_and_restore(rank: int, world_size: int, root: str) -> dict[str, Any]:
    import os

    import torch
    import torch.distributed as dist

    from sucrose import Catalog, StateDict

    def state_of(step: int) -> dict[str, StateDict]:
        return {
            "state": StateDict(mine=torch.full((5000,), 100.0 * rank + step), same=torch.full((5000,), float(step)))
        }

    def error_of(call: Any) -> tuple[str, str]:
        try:
            call()
        except Exception as error:  # noqa: BLE001  # the type is what the test asks for
            return type(error).__name__, str(error)
        return "nothing", ""

    catalog = Catalog(root, keep_last=2)
    found: dict[str, Any] = {"empty": catalog.restore_latest(state_of(0))}
    glob = ["state/same"]
    saved = [catalog.save(1, state_of(1), metrics={"loss": 0.5 + rank}, replicated=glob)]
    state = state_of(10)
    pending = []
    for step in (10, 20, 5):  # the last goes back, so that it is of another timeline
        state["state"]["mine"].fill_(100.0 * rank + step)
        pending.append(catalog.async_save(step, state, metrics={"loss": float(step)}, replicated=glob))
    state["state"]["mine"].fill_(-1)
    saved += [one.wait() for one in pending]
    found["saved"] = [(one.id, one.order, dict(one.metrics), one.nbytes) for one in saved]
    dist.barrier()
    if rank == 0:
        catalog.collect()
    dist.barrier()
    found["steps"] = [one.step for one in catalog.generations()]

    state = state_of(0)
    newest = catalog.restore_latest(state)
    found["newest"] = newest.id, state["state"]["mine"][0].item(), state["state"]["same"].sum().item()
    earlier = catalog.restore(20, state)
    found["earlier"] = earlier.id, state["state"]["mine"][0].item()

    found["refused"] = [
        error_of(lambda: catalog.save(30, state, base="newest"))[0],
        error_of(lambda: Catalog(root, full_every=3).save(30, state))[0],
        error_of(lambda: catalog.save(30 + rank, state)),
        error_of(lambda: Catalog(root + "/of rank 1" * rank).restore_latest(state)),
        error_of(lambda: catalog.restore(3, state))[0],
        error_of(lambda: catalog.save(-1 if rank else 30, state))[0],
    ]
    other = StateDict(mine=torch.zeros(3 if rank else 5000))
    found["mismatch"] = error_of(lambda: catalog.restore_latest({"state": other}))
    found["quarantined before"] = len(catalog.quarantined())

    alone = Catalog(root + f"/alone {rank}", pg=[dist.new_group([one]) for one in range(world_size)][rank])
    alone.save(rank, state)
    found["alone"] = alone.restore_latest(state).step

    elsewhere = Catalog("memory://bucket/catalog")  # each process has a store of its own
    found["in a store of its own"] = [
        error_of(lambda: elsewhere.save(1, state))[0],
        error_of(lambda: elsewhere.save(1, {"number": StateDict(rank=rank)})),
        error_of(lambda: elsewhere.restore_latest({"number": StateDict(rank=rank)})),
        elsewhere.steps(),
        elsewhere.quarantined(),
    ]

    dist.barrier()
    if rank == 0:  # only rank 1 reads this file
        with open(os.path.join(newest.path, "data", "1_0.safetensors"), "r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\\xff\\xff\\xff\\xff")
    dist.barrier()
    found["after damage"] = catalog.restore_latest(state).id, state["state"]["mine"][0].item()
    dist.barrier()
    found["quarantined"] = [one.name for one in catalog.quarantined()]
    return found


def test_all_ranks_get_the_generation_that_rank_0_has_chosen(tmp_path: Path) -> None:
    outcomes = run_ranks(2, save_and_restore, tmp_path, arguments=[str(tmp_path / "catalog")])
    of_ranks = values_of(outcomes)
    first, second = of_ranks
    assert first["empty"] is second["empty"] is None
    assert first["saved"] == second["saved"]
    ids = [one[0] for one in first["saved"]]
    assert [one[1][:2] for one in first["saved"]] == [(0, 1), (0, 10), (0, 20), (1, 5)]
    assert [one[2]["loss"] for one in first["saved"]] == [0.5, 10, 20, 5]
    for rank, found in enumerate(of_ranks):
        assert found["steps"] == [20, 5]
        assert found["newest"] == (ids[3], 100 * rank + 5, 10 * 5000)
        assert found["earlier"] == (ids[2], 100 * rank + 20)
        assert found["refused"][:2] == ["UnsupportedError", "UnsupportedError"]
        assert [kind for kind, _ in found["refused"][2:4]] == ["RankError", "RankError"]
        assert "rank 1 names step 31, and rank 0 step 30" in found["refused"][2][1]
        assert "of rank 1" in found["refused"][3][1]
        assert found["alone"] == rank
        assert found["quarantined before"] == 0
        assert found["after damage"] == (ids[2], 100 * rank + 20)
        assert found["quarantined"] == [ids[3]]
    assert [found["refused"][4] for found in of_ranks] == ["IncompleteSnapshotError", "RankError"]
    assert [found["refused"][5] for found in of_ranks] == ["RankError", "ValueError"]
    assert [found["mismatch"][0] for found in of_ranks] == ["RankError", "StateMismatchError"]
    assert "StateMismatchError" in first["mismatch"][1]
    unshared = [found["in a store of its own"] for found in of_ranks]
    assert [one[0] for one in unshared] == ["StorageError", "RankError"]
    assert [one[1][0] for one in unshared] == ["nothing", "StorageError"]
    assert [one[2][0] for one in unshared] == ["StorageError", "RankError"]
    assert all("and rank 1 does not" in one[2][1] for one in unshared)
    assert [one[3:] for one in unshared] == [[[1], []], [[], []]]


def lose_a_rank(rank: int, world_size: int, root: str, when: str) -> Any:
    import torch

    import sucrose.catalog.catalog as catalog_module
    import sucrose.snapshot.started_take as started_take
    from sucrose import Catalog, StateDict
    from sucrose.snapshot.snapshot import Snapshot

    def patch(owner: Any, name: str, place: str) -> None:
        original = getattr(owner, name)

        def patched(*args: Any, **keywords: Any) -> Any:
            point(place)  # noqa: F821  # run_ranks has it
            return original(*args, **keywords)

        setattr(owner, name, patched)

    catalog = Catalog(root, keep_last=1)
    state = {"state": StateDict(mine=torch.full((1000,), float(rank)))}
    catalog.save(1, state)
    patch(catalog_module, "take", "planned")
    patch(started_take, "gather_parts", "written")
    patch(Snapshot, "restore", "restoring")
    if when == "restoring":
        return catalog.restore_latest(state)
    state["state"]["mine"] += 100
    if when == "pending":
        return catalog.async_save(2, state).wait()
    return catalog.save(2, state)


@pytest.mark.parametrize(
    ("dead", "when", "place"),
    [(0, "saving", "planned"), (1, "pending", "written"), (1, "restoring", "restoring")],
)
def test_where_a_rank_dies_the_other_one_says_so_and_the_generation_before_is_intact(
    tmp_path: Path, dead: int, when: str, place: str
) -> None:
    root = tmp_path / "catalog"
    outcomes = run_ranks(
        2,
        lose_a_rank,
        tmp_path,
        arguments=[str(root), when],
        kills={dead: place},
        store="torchrun",
        environment={"SUCROSE_RANK_TIMEOUT_S": "2"},
    )
    assert outcomes[dead].status == -signal.SIGKILL
    error = outcomes[1 - dead].error
    assert isinstance(error, RankError)
    assert (error.ranks, error.error_type) == ((dead,), "")
    catalog = Catalog(root)
    latest = catalog.latest(verify=True)
    assert latest is not None
    assert catalog.steps() == [1]
    assert latest.snapshot().read_object("1/state/mine").unique().tolist() == [1]
    assert not catalog.quarantined()

"""What ranks restore together: all of it, or nothing on any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ranks import run_ranks

from sucrose.errors import CorruptionError, RankError, StateMismatchError

if TYPE_CHECKING:
    from pathlib import Path


def restore_with(rank: int, world_size: int, path: str, how: str) -> dict[str, Any]:
    """Restores what something is wrong with on rank 1."""
    from pathlib import Path

    import torch
    import torch.distributed as dist

    from sucrose import Snapshot, StateDict
    from sucrose.errors import SucroseError

    state = StateDict(mine=torch.full((1000,), float(rank)), same=torch.ones(1000))
    app_state: dict[str, Any] = {"state": state}
    Snapshot.take(path, app_state)
    state["mine"] += 100
    if how == "another shape" and rank == 1:
        state["same"] = torch.zeros(3)
    if how == "a stateful that nobody has saved" and rank == 1:
        app_state["other"] = StateDict(x=1)
    if how == "no stateful at all" and rank == 1:
        app_state["state"] = {"mine": 1}
    if how == "a damaged file":
        file = Path(path, "data/1_0.safetensors")
        if rank == 1:
            content = bytearray(file.read_bytes())
            content[-5] ^= 1
            file.write_bytes(content)
        dist.barrier()
    if how == "another snapshot":
        state["mine"] += 900
        Snapshot.take(f"{path}-later", app_state)
        state["mine"] -= 900
        path += "-later" * rank
    try:
        Snapshot(path).restore(app_state)
    except (SucroseError, TypeError) as error:
        return {"error": error, "mine": state["mine"].unique().tolist()}
    return {}


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("another shape", StateMismatchError),
        ("a stateful that nobody has saved", StateMismatchError),
        ("no stateful at all", TypeError),
    ],
)
def test_what_does_not_fit_on_one_rank_leaves_all_ranks_as_they_were(tmp_path: Path, how: str, kind: type) -> None:
    outcomes = run_ranks(2, restore_with, tmp_path, arguments=[str(tmp_path / "step"), how])
    first, second = (outcome.value for outcome in outcomes)
    assert isinstance(second["error"], kind)
    assert isinstance(first["error"], RankError)
    assert first["error"].ranks == (1,)
    assert (first["mine"], second["mine"]) == ([100.0], [101.0])


def test_ranks_that_see_different_snapshots_restore_none(tmp_path: Path) -> None:
    outcomes = run_ranks(2, restore_with, tmp_path, arguments=[str(tmp_path / "step"), "another snapshot"])
    first, second = (outcome.value for outcome in outcomes)
    assert isinstance(first["error"], StateMismatchError)
    assert "rank 1 restores another snapshot" in str(first["error"])
    assert isinstance(second["error"], RankError)
    assert (first["mine"], second["mine"]) == ([100.0], [101.0])


def test_damage_that_one_rank_finds_is_heard_of_by_all(tmp_path: Path) -> None:
    outcomes = run_ranks(2, restore_with, tmp_path, arguments=[str(tmp_path / "step"), "a damaged file"])
    first, second = (outcome.value for outcome in outcomes)
    assert isinstance(second["error"], CorruptionError)
    assert isinstance(first["error"], RankError)
    assert "1_0.safetensors" in str(first["error"])

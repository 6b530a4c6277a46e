"""Ranks that do different things under the same names: pipeline stages, each with a mesh and a DDP group of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from ranks import run_ranks, values_of

from sucrose import Snapshot
from sucrose.errors import StateMismatchError

if TYPE_CHECKING:
    from pathlib import Path


def take_and_restore_stages(rank: int, world_size: int, folder: str) -> dict[str, Any]:
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Replicate, Shard
    from torch.nn.parallel import DistributedDataParallel

    from sucrose import Snapshot, StateDict
    from sucrose.errors import RankError, UnsupportedError

    stage = rank // 2
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    mesh = DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("stage", "data"))["data"]

    def state(factor: float) -> StateDict:
        copied = [torch.full((6,), factor * (10 * stage + number)) for number in range(3)]
        part = torch.full((3 + 2 * stage,), factor * (10 * stage + rank))
        spread = DTensor.from_local(part, mesh, [Shard(0)], run_check=False)
        copies = [DTensor.from_local(one, mesh, [Replicate()], run_check=False) for one in copied]
        return StateDict(spread=spread, **{f"copy{number}": one for number, one in enumerate(copies)})

    saved, restored = state(1.0), state(0.0)
    Snapshot.take(f"{folder}/meshes", {"state": saved})
    Snapshot(f"{folder}/meshes").restore({"state": restored})

    layer = torch.nn.Linear(3, 3)
    torch.nn.init.constant_(layer.weight, 1.0 + stage)
    model = DistributedDataParallel(layer, process_group=groups[stage])
    Snapshot.take(f"{folder}/ddp", {"model": model})
    torch.nn.init.zeros_(layer.weight)
    Snapshot(f"{folder}/ddp").restore({"model": model})

    everybody = DeviceMesh("cpu", [0, 1, 2, 3])
    small = DTensor.from_local(torch.ones(1 - stage), everybody, [Shard(0)], run_check=False, shape=(2,), stride=(1,))
    refused = None
    try:
        Snapshot.take(f"{folder}/part{stage}", {"state": StateDict(small=small)}, pg=groups[stage])
    except (RankError, UnsupportedError) as error:
        refused = type(error).__name__
    return {
        "wrong": [name for name in saved if not torch.equal(restored[name].to_local(), saved[name].to_local())],
        "weight": layer.weight.unique().tolist(),
        "refused": refused,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="module")
def stages(folder: Path) -> list[dict[str, Any]]:
    return values_of(run_ranks(4, take_and_restore_stages, folder, arguments=[str(folder)]))


def test_meshes_with_tensors_of_equal_names_get_their_own_back(stages: list[dict[str, Any]]) -> None:
    assert [of_rank["wrong"] for of_rank in stages] == [[], [], [], []]


def test_a_rank_that_no_mesh_had_is_not_given_one_of_several_values(folder: Path, stages: list[dict[str, Any]]) -> None:
    assert stages
    snapshot = Snapshot(folder / "meshes")
    assert torch.equal(snapshot.read_object("1/state/copy2"), torch.full((6,), 2.0))
    assert torch.equal(snapshot.read_object("3/state/copy2"), torch.full((6,), 12.0))
    with pytest.raises(StateMismatchError):
        snapshot.read_object("4/state/copy2")


def test_ddp_over_some_ranks_does_not_make_values_equal_on_all(stages: list[dict[str, Any]]) -> None:
    assert [of_rank["weight"] for of_rank in stages] == [[1.0], [1.0], [2.0], [2.0]]


def test_a_tensor_of_which_no_rank_of_the_group_has_a_part_is_refused(stages: list[dict[str, Any]]) -> None:
    assert [of_rank["refused"] for of_rank in stages] == [None, None, "UnsupportedError", "RankError"]

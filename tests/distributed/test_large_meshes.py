"""Meshes of so many ranks that not every rank can have them in entries of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same
from ranks import run_ranks, values_of

from sucrose import Snapshot

if TYPE_CHECKING:
    from pathlib import Path


def take_and_restore(rank: int, world_size: int, folder: str) -> bool:
    """With a limit that every mesh exceeds; returns whether the restored tensors are those that were saved."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    from sucrose import Snapshot, StateDict
    from sucrose.snapshot.collective import merging

    merging.MAX_MESHES_NBYTES = 0
    flat = init_device_mesh("cpu", (world_size,))
    pair = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))["b"]
    whole = torch.arange(35.0).view(7, 5)
    state = {
        "rows": distribute_tensor(whole, flat, [Shard(0)]),
        "columns": distribute_tensor(whole, flat, [Shard(1)]),
        "of two": distribute_tensor(whole + 100 * (rank // 2), pair, [Shard(0)]),  # its two meshes have one name
        "step": rank,
    }
    Snapshot.take(folder, {"state": StateDict(**state)})
    target = {name: torch.zeros_like(value) if name != "step" else -1 for name, value in state.items()}
    restored = StateDict(**target)
    Snapshot(folder).restore({"state": restored})
    same = [torch.equal(restored[name].to_local(), state[name].to_local()) for name in state if name != "step"]
    return all(same) and restored["step"] == rank


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("large meshes")
    assert values_of(run_ranks(4, take_and_restore, place, arguments=[str(place / "s")])) == [True] * 4
    return place / "s"


def test_a_tensor_of_one_mesh_is_listed_once_with_all_its_shards(folder: Path) -> None:
    manifest: dict[str, Any] = json.loads((folder / ".snapshot_metadata").read_text())["manifest"]
    assert [path for path in manifest if path.endswith("/rows")] == ["0/state/rows"]
    assert [shard["offsets"] for shard in manifest["0/state/rows"]["shards"]] == [[0, 0], [2, 0], [4, 0], [6, 0]]


def test_meshes_side_by_side_keep_their_own_entries(folder: Path) -> None:
    snapshot = Snapshot(folder)
    for rank in range(4):
        assert_same(snapshot.read_object(f"{rank}/state/of two"), torch.arange(35.0).view(7, 5) + 100 * (rank // 2))


def test_one_process_reads_them_whole(folder: Path) -> None:
    snapshot = Snapshot(folder)
    for rank in (0, 3, 7):
        assert_same(snapshot.read_object(f"{rank}/state/rows"), torch.arange(35.0).view(7, 5))
        assert_same(snapshot.read_object(f"{rank}/state/columns"), torch.arange(35.0).view(7, 5))
    assert snapshot.verify()

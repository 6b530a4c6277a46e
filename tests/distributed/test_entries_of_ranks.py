"""Which values a rank may have: its own, those that all ranks share, and parts of those that are spread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitwise import assert_same, raw_bytes
from spread_tensors import as_rank, grid, spread, write_snapshot
from torch.distributed.tensor import Shard

from sucrose import Snapshot, StateDict
from sucrose.errors import StateMismatchError
from sucrose.formats.manifest import DictEntry, PrimitiveEntry, ShardedTensorEntry, SnapshotMetadata, TensorEntry
from sucrose.formats.manifest import Shard as SavedShard
from sucrose.snapshot.entries import entry_at, find_entry, shards_of


def change_manifest(folder: Path, change: Any) -> None:
    file = folder / ".snapshot_metadata"
    metadata = json.loads(file.read_text())
    change(metadata["manifest"])
    file.write_text(json.dumps(metadata))


def primitive(value: int, *, replicated: bool) -> dict[str, Any]:
    return {"type": "int", "serialized_value": str(value), "replicated": replicated}


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """Three ranks with a spread tensor, an equal number on rank 0 for all, and a number each; rank 2 has a list."""
    full = torch.arange(12.0).view(6, 2)
    write_snapshot(tmp_path / "s", {"x": (full, grid([6, 2], [[2, 4], []]))}, world_size=3)

    def add(manifest: dict[str, Any]) -> None:
        for rank in range(3):
            manifest[f"{rank}/state"]["keys"] += ["equal", "own"]
            manifest[f"{rank}/state/own"] = primitive(rank, replicated=False)
        manifest["0/state/equal"] = primitive(7, replicated=True)
        manifest["2/state"]["keys"].append("list")
        manifest["2/state/list"] = {"type": "list"}
        manifest["2/state/list/0"] = primitive(5, replicated=False)

    change_manifest(tmp_path / "s", add)
    return Snapshot(tmp_path / "s")


def test_a_rank_has_its_own_the_equal_and_the_spread_values(snapshot: Snapshot) -> None:
    for rank in range(3):
        state = snapshot.read_object(f"{rank}/state")
        assert (state["own"], state["equal"]) == (rank, 7)
        assert_same(state["x"], torch.arange(12.0).view(6, 2))
    assert snapshot.read_object("2/state/list") == [5]


def test_a_new_rank_has_what_is_for_all(snapshot: Snapshot) -> None:
    assert list(snapshot.read_object("9/state")) == ["x", "equal"]


@pytest.mark.parametrize(
    ("path", "ranks", "other"), [("9/state/own", "ranks 0..2", "'0/state/own'"), ("0/state/list/0", "rank 2", "'2/")]
)
def test_a_value_of_other_ranks_tells_how_to_read_it(snapshot: Snapshot, path: str, ranks: str, other: str) -> None:
    with pytest.raises(StateMismatchError) as error:
        snapshot.read_object(path)
    assert error.value.key == path
    for part in (ranks, f"read_object({other}", "replicated="):
        assert part in str(error.value)


def test_what_nobody_has_saved_lists_near_matches(snapshot: Snapshot) -> None:
    with pytest.raises(StateMismatchError, match="near matches"):
        snapshot.read_object("0/state/owns")


def test_a_tensor_of_another_rank_is_given_to_whoever_has_room_for_it(tmp_path: Path) -> None:
    full = torch.arange(8.0)
    write_snapshot(tmp_path / "s", {"x": (full, grid([8], [[4]])), "y": (full + 1, grid([8], [[4]]))}, world_size=2)

    def split(manifest: dict[str, Any]) -> None:  # x was on rank 0 alone, y on rank 1
        manifest["0/state/x"]["shards"] += manifest.pop("1/state/x")["shards"]
        manifest["1/state/y"]["shards"] += manifest.pop("0/state/y")["shards"]
        manifest["0/state"]["keys"], manifest["1/state"]["keys"] = ["x"], ["y"]

    change_manifest(tmp_path / "s", split)
    with as_rank(0, 1):
        target = {name: spread(torch.zeros(8), (1,), [Shard(0)]) for name in ("x", "y")}
        read = Snapshot(tmp_path / "s").read_object("0/state", target)
        assert set(read) == {"x", "y"}
        assert raw_bytes(target["y"]._local_tensor) == raw_bytes(full + 1)
        only_y = {"y": spread(torch.zeros(8), (1,), [Shard(0)])}
        assert set(Snapshot(tmp_path / "s").read_object("0/state", only_y)) == {"y"}


def test_what_one_rank_saved_is_for_all(tmp_path: Path) -> None:
    Snapshot.take(tmp_path / "s", {"state": StateDict(x=torch.ones(2), n=[1, {"a": 2}])})
    snapshot = Snapshot(tmp_path / "s")
    assert_same(snapshot.read_object("3/state"), snapshot.read_object("0/state"))


def test_meshes_side_by_side_have_tensors_of_their_own(tmp_path: Path) -> None:
    full = torch.arange(8.0)
    write_snapshot(tmp_path / "s", {"x": (full, grid([8], [[2, 4, 6]]))}, world_size=4)

    def two_meshes(manifest: dict[str, Any]) -> None:  # of four elements each
        for rank in range(4):
            entry = manifest[f"{rank}/state/x"]
            entry.update(type="DTensor", mesh=[0, 1] if rank < 2 else [2, 3], dim_map=[[0]])
            entry["shards"][0]["offsets"] = [2 * (rank % 2)]

    change_manifest(tmp_path / "s", two_meshes)
    snapshot = Snapshot(tmp_path / "s")
    for rank, expected in ((0, full[:4]), (1, full[:4]), (2, full[4:]), (3, full[4:])):
        assert_same(snapshot.read_object(f"{rank}/state/x"), expected.clone())


def test_a_thousand_ranks_are_gone_through_once() -> None:
    class CountingManifest(dict[str, Any]):
        passes = 0

        def items(self) -> Any:
            self.passes += 1
            return super().items()

    ranks, names = 256, 20
    tensor = TensorEntry("data", "buffer_protocol", "torch.float32", [1], False, (0, 4))
    manifest = CountingManifest()
    for rank in range(ranks):
        manifest[f"{rank}/m"] = DictEntry([f"t{number}" for number in range(names)])
        for number in range(names):
            manifest[f"{rank}/m/t{number}"] = ShardedTensorEntry([SavedShard([rank], [1], tensor)])
    manifest["0/step"] = PrimitiveEntry.from_value(3)
    metadata = SnapshotMetadata("0.1.0", ranks, manifest)
    for number in range(names):
        path = f"{ranks + 1}/m/t{number}"
        dtype, shape, parts = shards_of(metadata, path, find_entry(metadata, path))
        assert (dtype, shape, len(parts)) == ("torch.float32", [ranks], ranks)
    assert entry_at(metadata, f"{ranks}/step") is None
    assert manifest.passes == 1

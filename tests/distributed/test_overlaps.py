"""Whatever boxes were saved, and whatever boxes a rank has now: it gets its elements, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bitwise import assert_same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spread_tensors import as_rank, grid, region, spread, write_snapshot
from torch.distributed.tensor import Replicate, Shard

from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError, StateMismatchError, UnsupportedError
from sucrose.snapshot import regions, staged_reads
from sucrose.snapshot.sharding.boxes import Box


@st.composite
def spread_tensor(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(st.lists(st.integers(1, 7), min_size=1, max_size=3))
    cuts = [
        draw(st.lists(st.integers(1, 6).filter(lambda cut, size=size: cut < size), max_size=2)) if size > 1 else []
        for size in shape
    ]
    mesh_shape = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    placements = [
        draw(st.one_of(st.builds(Shard, st.integers(0, len(shape) - 1)), st.just(Replicate()))) for _ in mesh_shape
    ]
    rank = draw(st.integers(0, int(torch.tensor(mesh_shape).prod()) - 1))
    return {"shape": shape, "cuts": cuts, "mesh_shape": mesh_shape, "placements": placements, "rank": rank}


def numbers(shape: list[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.arange(torch.Size(shape).numel()) + 1).reshape(shape).to(dtype)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(case=spread_tensor(), transposed=st.booleans(), staged=st.booleans())
def test_any_sharding_is_read_into_any_other(
    tmp_path_factory: pytest.TempPathFactory, case: dict[str, Any], transposed: bool, staged: bool
) -> None:
    folder = tmp_path_factory.mktemp("any") / "snapshot"
    full = numbers(case["shape"])
    write_snapshot(folder, {"x": (full, grid(case["shape"], case["cuts"]))}, world_size=2)
    with as_rank(case["rank"], int(torch.tensor(case["mesh_shape"]).prod())), pytest.MonkeyPatch.context() as patch:
        if staged:  # in blocks of a few bytes
            patch.setattr("sucrose.snapshot.reading._FEW_ROWS", 0)
            patch.setattr(staged_reads, "BLOCK_NBYTES", 24)
            patch.setattr(staged_reads, "MAX_STAGED_NBYTES", 48)
        else:
            patch.setattr(regions, "MAX_ROWS", 3)
        expected = spread(full, case["mesh_shape"], case["placements"])
        given_tensor = spread(torch.zeros_like(full), case["mesh_shape"], case["placements"])
        if transposed:
            local = given_tensor._local_tensor
            given_tensor._local_tensor = local.mT.contiguous().mT if local.ndim > 1 else local
        address = given_tensor._local_tensor.data_ptr()
        read = Snapshot(folder).read_object("0/state/x", given_tensor)
        assert read is given_tensor
        assert given_tensor._local_tensor.data_ptr() == address
        assert_same(given_tensor._local_tensor.contiguous(), expected._local_tensor.contiguous())
    assert_same(Snapshot(folder).read_object("1/state/x"), full)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_a_column_of_a_whole_tensor_is_read_row_by_row(
    each_engine: str, tmp_path: Path, compression: str | None
) -> None:
    full = numbers([300, 6, 128], torch.float64)
    tied = numbers([40, 40])
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(x=full, y=tied)}, compression=compression)
    with as_rank(1, 4):
        for placements in ([Shard(1), Shard(2)], [Shard(2), Shard(2)], [Shard(0), Shard(1)], [Replicate(), Shard(2)]):
            target = spread(torch.zeros_like(full), (2, 2), placements)
            snapshot.read_object("0/state/x", target)
            assert_same(target._local_tensor, spread(full, (2, 2), placements)._local_tensor)
        state = spread(torch.zeros_like(tied), (4,), [Shard(1)])
        snapshot.read_object("0/state/y", state)
        assert_same(state._local_tensor, tied[:, 10:20].contiguous())


def test_a_shape_or_dtype_that_differs_is_told_and_changes_nothing(tmp_path: Path) -> None:
    full = numbers([8, 4])
    write_snapshot(tmp_path / "s", {"x": (full, grid([8, 4], [[3], []]))}, world_size=2)
    with as_rank(0, 2):
        for other in (torch.zeros(8, 5), torch.zeros(8, 4, dtype=torch.float64)):
            target = spread(other, (2,), [Shard(0)])
            with pytest.raises(StateMismatchError) as error:
                Snapshot(tmp_path / "s").read_object("0/state/x", target)
            assert error.value.key == "0/state/x"
            assert not target._local_tensor.any()


def test_a_partial_tensor_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Partial

    with as_rank(0, 2):
        tensor = DTensor.from_local(torch.ones(2), DeviceMesh("cpu", torch.arange(2)), [Partial()], run_check=False)
        from sucrose.snapshot.sharding import sharded_value

        with pytest.raises(UnsupportedError, match="redistribute") as error:
            sharded_value(tensor, "0/model/x")
        assert error.value.key == "0/model/x"


def test_shards_that_leave_a_gap_are_corrupt_for_the_ranks_that_need_it(tmp_path: Path) -> None:
    full = numbers([9])
    boxes = [Box((0,), (3,)), Box((6,), (3,))]
    write_snapshot(tmp_path / "s", {"x": (full, boxes)}, world_size=2)
    with as_rank(0, 3):
        target = spread(torch.zeros(9), (3,), [Shard(0)])
        Snapshot(tmp_path / "s").read_object("0/state/x", target)
        assert_same(target._local_tensor, region(full, boxes[0]))
    with as_rank(1, 3):
        target = spread(torch.zeros(9), (3,), [Shard(0)])
        with pytest.raises(CorruptionError) as error:
            Snapshot(tmp_path / "s").read_object("0/state/x", target)
        assert error.value.key == "0/state/x"
    with pytest.raises(CorruptionError):
        Snapshot(tmp_path / "s").read_object("0/state/x")

"""What a rank holds of a tensor that is spread over ranks, and what of it goes into a snapshot."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from bitwise import assert_same
from spread_tensors import as_rank, region, spread
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.placement_types import _StridedShard

from sucrose import StateDict
from sucrose.engine import get_engine
from sucrose.errors import UnsupportedError
from sucrose.formats.manifest import DTensorEntry
from sucrose.options import current_options
from sucrose.snapshot.capture import capture
from sucrose.snapshot.plan import plan_data_files
from sucrose.snapshot.sharding import Box, shard_entries, sharded_value
from sucrose.snapshot.sharding.templates import made_like, templates_of

MESHES: list[tuple[tuple[int, ...], list[Any]]] = [
    ((4,), [Shard(0)]),
    ((4,), [Shard(1)]),
    ((4,), [Replicate()]),
    ((2, 2), [Shard(0), Shard(1)]),
    ((2, 2), [Shard(1), Shard(1)]),
    ((2, 2), [Replicate(), Shard(0)]),
    ((2, 3), [Shard(1), Replicate()]),
    ((2, 2), [_StridedShard(0, split_factor=2), Shard(0)]),
    ((3, 2), [_StridedShard(0, split_factor=2), Shard(0)]),
    ((2, 2), [Shard(0), _StridedShard(0, split_factor=2)]),
    ((2, 2), [_StridedShard(1, split_factor=3), Shard(0)]),
]
SHAPES = [(8, 6), (7, 5), (3, 1), (1, 2)]


def value_of(tensor: Any) -> Any:
    value = sharded_value(tensor, "0/model/x")
    assert value is not None
    return value


@pytest.mark.parametrize("case", range(len(MESHES)))
def test_shards_of_all_ranks_are_the_tensor_and_holders_have_equal_ones(case: int) -> None:
    mesh_shape, placements = MESHES[case]
    world_size = int(torch.tensor(mesh_shape).prod())
    for shape in SHAPES:
        full = torch.arange(shape[0] * shape[1]).view(shape)
        seen = torch.zeros_like(full)
        boxes, holders = [], []
        for rank in range(world_size):
            with as_rank(rank, world_size):
                value = value_of(spread(full, mesh_shape, placements))
            assert value.shape == shape
            assert rank in value.holders
            for shard in value.shards:
                assert_same(shard.tensor.contiguous(), region(full, shard.box).contiguous())
                if value.holders[0] == rank:
                    region(seen, shard.box).add_(1)
            boxes.append([shard.box for shard in value.shards])
            holders.append(value.holders)
        assert bool((seen == 1).all())  # each element once
        for one, other in product(range(world_size), repeat=2):
            if boxes[one]:
                assert (boxes[one] == boxes[other]) == (other in holders[one])


def test_a_shard_is_the_memory_of_the_program() -> None:
    with as_rank(1, 2):
        tensor = spread(torch.arange(8.0), (2,), [Shard(0)])
        value = value_of(torch.nn.Parameter(tensor))
        assert value.shards[0].tensor.data_ptr() == tensor._local_tensor.data_ptr()
        assert value.layout.mesh == [0, 1]
        assert value.layout.dim_map == [[0]]


def test_ordinary_tensors_are_none() -> None:
    class Named(torch.Tensor):
        pass

    for tensor in (torch.ones(2), torch.nn.Parameter(torch.ones(2)), torch.ones(2).as_subclass(Named)):
        assert sharded_value(tensor) is None


def test_several_local_shards_of_a_sharded_tensor_are_told() -> None:
    from torch.distributed._shard import sharded_tensor

    with as_rank(0, 1):
        full = torch.arange(24.0).view(6, 4)
        parts = [(0, 2), (2, 6)]
        local = [sharded_tensor.Shard.from_tensor_and_offsets(full[a:b].clone(), [a, 0], 0) for a, b in parts]
        tensor = sharded_tensor.init_from_local_shards(local, 6, 4)
        value = value_of(tensor)
        assert value.layout is None
        assert value.shape == (6, 4)
        assert value.holders == (0,)
        assert [shard.box for shard in value.shards] == [Box((0, 0), (2, 4)), Box((2, 0), (4, 4))]
        for shard in value.shards:
            assert_same(shard.tensor, region(full, shard.box))


def captured_entries(state: dict[str, Any], **changed: Any) -> tuple[Any, dict[str, Any]]:
    from dataclasses import replace

    captured = capture({"state": StateDict(**state)}, None, get_engine())
    _, entries = plan_data_files(captured, replace(current_options(), **changed))
    return captured, shard_entries(captured, entries)


def test_shards_are_planned_like_tensors_and_listed_together() -> None:
    full = torch.arange(32.0).view(8, 4)
    with as_rank(2, 4):
        spread_tensor = spread(full, (2, 2), [_StridedShard(0, split_factor=4), Shard(1)])
        state = {"x": spread_tensor, "x[4,0]": torch.ones(2), "tied": spread_tensor, "plain": torch.ones(3)}
        captured, entries = captured_entries(state)
    assert {path for path in entries if "state" in path} == {f"0/state/{name}" for name in state}
    entry = entries["0/state/x"]
    assert isinstance(entry, DTensorEntry)
    assert entry.mesh == [[0, 1], [2, 3]]
    assert entry.dim_map == [[0], [1]]
    assert [shard.offsets for shard in entry.shards] == [[1, 0], [3, 0], [5, 0], [7, 0]]
    assert entries["0/state/tied"].shards == entry.shards  # stored once
    assert len(set(captured.dense)) == 2 + 4 + 4


def test_a_rank_lists_only_what_it_has_written() -> None:
    with as_rank(0, 2):
        captured = capture({"state": StateDict(x=spread(torch.ones(4), (2,), [Replicate()]))}, None, get_engine())
        assert captured.sharded["0/state/x"].holders == (0, 1)
        entries = shard_entries(captured, {})
    assert entries["0/state/x"].shards == []  # its mesh, in case that others have another tensor of the name


def test_chunks_of_a_shard_are_shards() -> None:
    with as_rank(1, 2):
        _, entries = captured_entries(
            {"x": spread(torch.arange(32.0).view(16, 2), (2,), [Shard(0)])}, max_chunk_nbytes=24
        )
    shards = entries["0/state/x"].shards
    assert [(shard.offsets, shard.sizes) for shard in shards] == [
        ([8, 0], [3, 2]),
        ([11, 0], [3, 2]),
        ([14, 0], [2, 2]),
    ]


def test_a_tensor_without_elements_keeps_its_shape() -> None:
    with as_rank(1, 2):
        captured, _ = captured_entries({"x": spread(torch.ones(0, 3), (2,), [Shard(0)])})
    assert captured.pickled_tensors["0/state/x"].shape == (0, 3)


def test_sparse_shards_are_refused() -> None:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

    with as_rank(0, 1):
        local = torch.eye(3).to_sparse()
        tensor = DTensor.from_local(torch.eye(3), DeviceMesh("cpu", torch.arange(1)), [Shard(0)], run_check=False)
        tensor._local_tensor = local
        with pytest.raises(UnsupportedError) as error:
            capture({"state": StateDict(x=tensor)}, None, get_engine())
    assert error.value.key == "0/state/x"


def test_an_optimizer_without_state_gets_one_that_is_spread_like_its_parameters() -> None:
    with as_rank(1, 2):
        parameters = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(spread(torch.ones(5, 2), (2,), [Shard(0)]))]
        templates = templates_of(torch.optim.AdamW(parameters), "0/optim")
        assert list(templates) == ["0/optim/state/1"]
        made = made_like(templates, "0/optim/state/1/exp_avg", torch.bfloat16, [5, 2])
        assert made is not None
        assert made.dtype is torch.bfloat16
        assert [shard.box for shard in value_of(made).shards] == [Box((3, 0), (2, 2))]
        assert made_like(templates, "0/optim/state/1/step", torch.float32, []) is None
        assert made_like(templates, "0/optim/state/0/exp_avg", torch.float32, [3]) is None

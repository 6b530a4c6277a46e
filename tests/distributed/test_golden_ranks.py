"""What the original torchsnapshot wrote on two and on four ranks is read in one process, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bitwise import assert_same
from golden.make_golden_ranks import WORLD_SIZES, sample_of
from spread_tensors import as_rank, spread
from torch.distributed.tensor import Replicate, Shard

from sucrose import Snapshot, StateDict
from sucrose.errors import StateMismatchError

NAMES = ["rows", "columns", "copies", "blocks", "table"]


@pytest.fixture(params=WORLD_SIZES)
def world_size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def expected_of(world_size: int) -> dict[str, Any]:
    return torch.load(sample_of(world_size) / "expected.pt", weights_only=False)  # type: ignore[no-any-return]


def snapshot_of(world_size: int) -> Snapshot:
    return Snapshot(sample_of(world_size) / "snapshot")


def test_spread_tensors_come_out_whole(each_engine: str, world_size: int) -> None:
    snapshot = snapshot_of(world_size)
    expected = expected_of(world_size)["spread"]
    assert list(expected) == NAMES
    for name, full in expected.items():
        for rank in (0, world_size - 1, world_size + 5):
            assert_same(snapshot.read_object(f"{rank}/{name}/value"), full, name)
        into = torch.zeros_like(full)
        assert snapshot.read_object(f"0/{name}/value", into) is into
        assert_same(into, full, name)


def test_spread_tensors_are_spread_anew(each_engine: str, world_size: int) -> None:
    snapshot = snapshot_of(world_size)
    full = expected_of(world_size)["spread"]
    for rank in range(6):
        with as_rank(rank, 6):
            for name in NAMES:
                for placements in ([Shard(1), Shard(0)], [Shard(1), Replicate()]):
                    target = spread(torch.zeros_like(full[name]), (3, 2), placements)
                    snapshot.read_object(f"{rank}/{name}/value", target)
                    expected = spread(full[name], (3, 2), placements)
                    assert_same(target._local_tensor, expected._local_tensor, name)


def test_equal_values_are_there_for_any_rank(each_engine: str, world_size: int) -> None:
    snapshot = snapshot_of(world_size)
    expected = expected_of(world_size)["equal"]
    for rank in (0, world_size - 1, world_size, 77):
        assert_same(snapshot.read_object(f"{rank}/equal"), expected)
        assert_same(snapshot.read_object(f"{rank}/equal/inner/bias"), expected["inner"]["bias"])


def test_each_rank_reads_what_was_its_own(each_engine: str, world_size: int) -> None:
    snapshot = snapshot_of(world_size)
    for rank, expected in enumerate(expected_of(world_size)["own"]):
        assert_same(snapshot.read_object(f"{rank}/own", allow_pickle=True), expected)


def test_a_rank_that_was_not_there_has_nothing_of_its_own(world_size: int) -> None:
    snapshot = snapshot_of(world_size)
    with pytest.raises(StateMismatchError, match=rf"ranks 0\.\.{world_size - 1}.*'0/own/tensor'") as error:
        snapshot.read_object(f"{world_size}/own/tensor")
    assert error.value.key == f"{world_size}/own/tensor"


def test_one_process_restores_all_of_it_in_place(each_engine: str, world_size: int) -> None:
    expected = expected_of(world_size)
    state = {name: StateDict(value=torch.zeros_like(full)) for name, full in expected["spread"].items()}
    equal = {**expected["equal"], "weight": torch.zeros(2, 3)}
    snapshot_of(world_size).restore({**state, "equal": StateDict(**equal)})
    for name, full in expected["spread"].items():
        assert_same(state[name]["value"], full, name)
    assert_same(equal["weight"], expected["equal"]["weight"])

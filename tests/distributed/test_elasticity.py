"""Snapshots of some ranks, restored on more or fewer: bit for bit, however the tensors are spread."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from ranks import run_ranks, values_of

if TYPE_CHECKING:
    from pathlib import Path

WORLD_SIZES = (1, 2, 4)


def save_or_restore(rank: int, world_size: int, folder: str, action: str, saved_on: list[int]) -> dict[str, Any]:
    """Saves on these ranks, with what all tensors are as a whole; or restores what those have saved, and compares."""
    import copy
    import os
    import warnings

    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
    from torch.nn.parallel import DistributedDataParallel

    from sucrose import Snapshot, StateDict

    warnings.simplefilter("ignore", FutureWarning)
    flat = init_device_mesh("cpu", (world_size,))
    grid = init_device_mesh("cpu", (2, 2) if world_size == 4 else (world_size, 1), mesh_dim_names=("a", "b"))

    def make(seed: int) -> dict[str, Any]:
        torch.manual_seed(seed)

        def network() -> Any:
            return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 3))

        ddp = DistributedDataParallel(network())
        bare = network()
        sharded, hybrid = copy.deepcopy(bare), copy.deepcopy(bare)
        fully_shard(sharded, mesh=flat)
        fully_shard(hybrid, mesh=grid)  # replicated over the first dimension, sharded over the second
        whole = torch.randn(9, 6)
        spread = {
            "rows": distribute_tensor(whole, flat, [Shard(0)]),
            "columns": distribute_tensor(whole, flat, [Shard(1)]),
            "both": distribute_tensor(whole, grid, [Shard(0), Shard(1)]),
            "twice": distribute_tensor(whole, grid, [Shard(0), Shard(0)]),
            "copies": distribute_tensor(whole, grid, [Replicate(), Shard(1)]),
            "whole": distribute_tensor(whole, flat, [Replicate()]),
            "one row": distribute_tensor(torch.randn(1, 3), flat, [Shard(0)]),
            "bf16": distribute_tensor(torch.randn(13, 2).bfloat16(), flat, [Shard(0)]),
        }
        state: dict[str, Any] = {"ddp": ddp, "sharded": sharded, "hybrid": hybrid, "spread": StateDict(**spread)}
        for name in ("ddp", "sharded", "hybrid"):
            optimizer = torch.optim.AdamW(state[name].parameters(), lr=0.01)
            if action == "save":
                state[name](torch.randn(4, 5)).square().mean().backward()
                optimizer.step()
            state[f"{name} optimizer"] = optimizer
        state["progress"] = StateDict(step=seed, best=[1.5, {"epoch": seed}])
        return state

    def whole(value: Any) -> Any:
        if isinstance(value, DTensor):
            return value.full_tensor()
        if isinstance(value, dict):
            return {key: whole(item) for key, item in value.items()}
        if isinstance(value, list):
            return [whole(item) for item in value]
        return value

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, torch.Tensor):
            one, other = (each.detach().reshape(-1).view(torch.uint8) for each in (one, other))
            return bool(torch.equal(one, other))
        if isinstance(one, dict):
            return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
        if isinstance(one, list):
            return len(one) == len(other) and all(map(same, one, other))
        return bool(one == other)

    replicated = ["ddp optimizer/**", "*/step", "*/param_groups/**", "progress/**", "sharded/1.*", "hybrid/1.*"]
    if action == "save":
        state = make(world_size)
        contents = {key: whole(stateful.state_dict()) for key, stateful in state.items()}
        snapshot = Snapshot.take(f"{folder}/{world_size}", state, replicated=replicated)
        if rank == 0:
            torch.save(contents, f"{folder}/{world_size}.pt")
        stored = sum(
            os.path.getsize(f"{folder}/{world_size}/data/{name}") for name in os.listdir(f"{folder}/{world_size}/data")
        )
        return {"stored": stored, "verified": bool(snapshot.verify())}
    found = {}
    for ranks in saved_on:
        state = make(1000)
        expected = torch.load(f"{folder}/{ranks}.pt")
        Snapshot(f"{folder}/{ranks}").restore(state)
        found[str(ranks)] = {key: same(whole(state[key].state_dict()), expected[key]) for key in state}
        full = Snapshot(f"{folder}/{ranks}").read_object(f"{rank}/spread/both")
        found[str(ranks)]["read_object"] = torch.equal(full, expected["spread"]["both"])
        into_plain = StateDict(**{name: torch.zeros_like(value) for name, value in expected["spread"].items()})
        Snapshot(f"{folder}/{ranks}").restore({"spread": into_plain})
        found[str(ranks)]["into plain tensors"] = same(dict(into_plain), expected["spread"])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snapshots")
    stored = {}
    for ranks in WORLD_SIZES:
        saved = values_of(run_ranks(ranks, save_or_restore, folder, arguments=[str(folder), "save", []]))
        assert all(of_rank["verified"] for of_rank in saved)
        stored[ranks] = saved[0]["stored"]
    (folder / "stored.json").write_text(json.dumps(stored))
    return folder


@pytest.mark.parametrize("ranks", WORLD_SIZES)
def test_any_number_of_ranks_restores_what_any_number_has_saved(folder: Path, ranks: int) -> None:
    arguments = [str(folder), "restore", list(WORLD_SIZES)]
    for of_rank in values_of(run_ranks(ranks, save_or_restore, folder, arguments=arguments)):
        wrong = {saved_on: [key for key, fits in found.items() if not fits] for saved_on, found in of_rank.items()}
        assert wrong == {str(saved_on): [] for saved_on in WORLD_SIZES}


def test_more_ranks_store_no_more_bytes_but_those_of_headers(folder: Path) -> None:
    stored = json.loads((folder / "stored.json").read_text())
    assert stored["4"] - stored["1"] < 4 * 4096

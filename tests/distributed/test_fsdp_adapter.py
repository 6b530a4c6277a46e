"""Optimizers of FullyShardedDataParallel modules, saved on some ranks and restored on others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ranks import run_ranks, values_of

if TYPE_CHECKING:
    from pathlib import Path


def train(rank: int, world_size: int, path: str, action: str) -> dict[str, Any]:
    """Takes a snapshot after a step, or restores it before any; and then makes another step."""
    import warnings

    import torch
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict
    from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType

    from sucrose import FSDPOptimizerAdapter, Snapshot

    warnings.simplefilter("ignore")
    torch.manual_seed(0 if action == "save" else 1)
    module = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    model = FullyShardedDataParallel(module, device_id=torch.device("cpu"), use_orig_params=True)
    FullyShardedDataParallel.set_state_dict_type(model, StateDictType.SHARDED_STATE_DICT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    app_state: dict[str, Any] = {"model": model, "optimizer": FSDPOptimizerAdapter(model, optimizer)}

    def step() -> None:
        model(torch.ones(2, 5)).square().mean().backward()
        optimizer.step()

    if action == "save":
        Snapshot.take(f"{path}/untouched", app_state, replicated=["optimizer/param_groups/**"])
        step()
        globs = ["optimizer/param_groups/**", "optimizer/state/*/step"]
        Snapshot.take(f"{path}/step_1", app_state, replicated=globs)
    else:
        model(torch.ones(2, 5)).square().mean().backward()  # gradients must not be in the way
        before = len(optimizer.state)
        Snapshot(f"{path}/step_1").restore(app_state)
        assert before == 0
    found = get_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True))
    untouched = Snapshot(f"{path}/untouched").get_manifest()
    return {"full": found, "untouched": sorted(path for path in untouched if "/optimizer/state/" in path)}


def test_the_state_of_an_optimizer_fits_other_ranks(tmp_path: Path) -> None:
    import torch

    saved = values_of(run_ranks(2, train, tmp_path, arguments=[str(tmp_path), "save"]))
    model, optimizer = saved[0]["full"]
    assert set(optimizer["state"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    for ranks in (2, 4):
        restored = values_of(run_ranks(ranks, train, tmp_path, arguments=[str(tmp_path), "restore"]))
        other_model, other_optimizer = restored[0]["full"]
        assert all(torch.equal(other_model[name], value) for name, value in model.items())
        for name, values in optimizer["state"].items():
            assert all(torch.equal(other_optimizer["state"][name][key], value) for key, value in values.items()), name
        assert other_optimizer["param_groups"] == optimizer["param_groups"]


def test_an_optimizer_that_has_made_no_step_is_saved_without_a_state(tmp_path: Path) -> None:
    [saved] = values_of(run_ranks(1, train, tmp_path, arguments=[str(tmp_path), "save"]))
    assert saved["untouched"] == []

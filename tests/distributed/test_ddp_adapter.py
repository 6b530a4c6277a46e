"""DistributedDataParallel modules: by themselves, and as the module that is in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranks import run_ranks, values_of

from sucrose import Snapshot
from sucrose.errors import StateMismatchError


def train_and_take(rank: int, world_size: int, folder: str) -> dict[str, Any]:
    import torch
    from torch.nn.parallel import DistributedDataParallel

    from sucrose import DistributedDataParallelAdapter, Snapshot

    def make() -> Any:
        return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 2))

    torch.manual_seed(rank)
    module = make()
    module.own = torch.nn.Parameter(torch.full((2,), float(rank)))
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, ["own"])
    model = DistributedDataParallel(module)
    model(torch.randn(8, 4)).square().mean().backward()  # the buffers differ by rank from here on
    app_state: dict[str, Any] = {"plain": model, "adapted": DistributedDataParallelAdapter(model)}
    snapshot = Snapshot.take(f"{folder}/step", app_state)
    saved = {name: value.clone() for name, value in model.module.state_dict().items()}
    for parameter in model.parameters():
        parameter.data.zero_()
    snapshot.restore({"adapted": app_state["adapted"]})
    same = {name: torch.equal(value, saved[name]) for name, value in model.module.state_dict().items()}
    return {"manifest": snapshot.get_manifest(), "same": same, "saved": saved}


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ddp")
    values = values_of(run_ranks(2, train_and_take, folder, arguments=[str(folder)]))
    return Snapshot(folder / "step"), values


def bare_module() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 2))
    module.own = torch.nn.Parameter(torch.zeros(2))
    return module


def test_parameters_are_written_once_without_being_asked_for(taken: tuple[Snapshot, list[dict[str, Any]]]) -> None:
    manifest = taken[1][0]["manifest"]
    for name in ("plain/module.0.weight", "adapted/0.weight"):
        assert manifest[f"0/{name}"].replicated
        assert f"1/{name}" not in manifest


def test_what_ddp_is_told_to_ignore_is_each_ranks_own(taken: tuple[Snapshot, list[dict[str, Any]]]) -> None:
    manifest = taken[1][0]["manifest"]
    for rank in (0, 1):
        assert not manifest[f"{rank}/plain/module.own"].replicated
        assert taken[0].read_object(f"{rank}/adapted/own").tolist() == [float(rank)] * 2


def test_buffers_are_those_of_rank_0(taken: tuple[Snapshot, list[dict[str, Any]]]) -> None:
    snapshot, (first, second) = taken
    mean = snapshot.read_object("1/adapted/1.running_mean")
    assert torch.equal(mean, first["saved"]["1.running_mean"])
    assert not torch.equal(mean, second["saved"]["1.running_mean"])


def test_a_module_is_restored_through_the_adapter(taken: tuple[Snapshot, list[dict[str, Any]]]) -> None:
    for rank, of_rank in enumerate(taken[1]):
        differing = [name for name, is_same in of_rank["same"].items() if not is_same]
        assert differing == ([] if rank == 0 else ["1.running_mean", "1.running_var"])


def test_a_bare_module_takes_what_the_adapter_has_saved(taken: tuple[Snapshot, list[dict[str, Any]]]) -> None:
    snapshot, (first, _) = taken
    bare = bare_module()
    snapshot.restore({"adapted": bare})
    assert all(torch.equal(value, first["saved"][name]) for name, value in bare.state_dict().items())


def test_without_the_adapter_the_names_do_not_fit_a_bare_module(taken: tuple[Snapshot, list[dict[str, Any]]]) -> None:
    with pytest.raises(StateMismatchError, match=r"'0\.weight', which was not saved"):
        taken[0].restore({"plain": bare_module()})

"""Snapshots that two ranks take together, with everything that one rank can do by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ranks import run_ranks, values_of

from sucrose import Snapshot
from sucrose.errors import SignatureError, StateMismatchError, StorageError, UnsupportedError
from sucrose.storage import JoinedDirectory

if TYPE_CHECKING:
    from pathlib import Path

KEY = "a key for signing"


def take_in_many_ways(rank: int, world_size: int, folder: str, key: str) -> dict[str, Any]:
    import logging
    import os

    import torch
    import torch.distributed as dist

    from sucrose import RNGState, Snapshot, StateDict

    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger("sucrose").addHandler(handler)
    torch.manual_seed(rank)
    state = StateDict(
        same=torch.arange(1000.0),
        also=torch.ones(300, dtype=torch.float64),
        mine=torch.full((3,), float(rank)),
        rank=rank,
        text="the same",
        pair=(1, 2),
        own=(rank, rank),
    )
    state["tied"] = state["same"]
    app_state: dict[str, Any] = {"state": state, "rng": RNGState()}
    if rank == 1:
        app_state["only here"] = StateDict(x=torch.arange(3))
    globs = ["state/same", "state/also", "state/tied", "state/[pt]*"]
    path = f"{folder}/plain" if rank == 0 else f"{folder}/elsewhere"
    taken = Snapshot.take(path, app_state, replicated=[*globs, f"state/only of {rank}"])
    drawn = torch.rand(3)
    Snapshot.take(f"{folder}/all", app_state, replicated=["**"])

    pending = [Snapshot.async_take(f"{folder}/later{index}", app_state, replicated=globs) for index in range(3)]
    state["mine"].zero_()
    dist.barrier()  # the program's own group goes on meanwhile
    later = [one.wait() for one in pending]
    Snapshot.take(f"{folder}/packed", app_state, replicated=globs, compression="auto", signing_key=key)
    try:
        Snapshot.take(f"{folder}/based", app_state, base=taken)
    except (TypeError, RuntimeError) as error:
        refused = error
    pair = dist.new_group([0, 1])
    ours = Snapshot.take(f"{folder}/of a group", {"state": state}, pg=pair)
    alone = [dist.new_group([one]) for one in (0, 1)][rank]
    by_itself = Snapshot.take(f"{folder}/alone{rank}", {"state": state}, pg=alone)

    state["rank"] = -1
    torch.manual_seed(99)
    taken.restore(app_state)
    return {
        "path": taken.path,
        "manifest": taken.get_manifest(),
        "world sizes": [one.metadata.world_size for one in (taken, ours, by_itself)],
        "of all": sorted(
            path
            for path, entry in Snapshot(f"{folder}/all").get_manifest().items()
            if getattr(entry, "replicated", False)
        ),
        "restored": [state["mine"].tolist(), state["rank"], state["text"], state["own"]],
        "drawn again": torch.equal(torch.rand(3), drawn),
        "later": [one.read_object(f"{rank}/state/mine").tolist() for one in later],
        "verified": [bool(one.verify()) for one in (taken, *later, ours)],
        "state": taken.get_state_dict_for_key("state")["own"],
        "refused": refused,
        "bytes": taken.stats.nbytes,
        "left": sorted(name for name in os.listdir(folder) if name.startswith(".")),
        "warnings": warnings,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("taken")


@pytest.fixture(scope="module")
def taken(folder: Path) -> list[dict[str, Any]]:
    return values_of(run_ranks(2, take_in_many_ways, folder, arguments=[str(folder), KEY]))


def test_all_ranks_return_one_snapshot_at_the_path_of_rank_0(folder: Path, taken: list[dict[str, Any]]) -> None:
    first, second = taken
    assert first["path"] == second["path"] == str(folder / "plain")
    assert first["manifest"] == second["manifest"] == Snapshot(folder / "plain").get_manifest()
    assert not (folder / "elsewhere").exists()
    assert any("rank 0's path counts" in text for text in first["warnings"])
    assert any("state/only of 0, state/only of 1" in text for text in first["warnings"])


def test_nothing_hidden_is_left(taken: list[dict[str, Any]]) -> None:
    assert [of_rank["left"] for of_rank in taken] == [[], []]


def test_the_manifest_is_laid_out_as_torchsnapshot_does_it(taken: list[dict[str, Any]]) -> None:
    manifest = taken[0]["manifest"]
    for rank in (0, 1):
        assert manifest[f"{rank}/state"].type == "dict"  # containers: each rank has its own
        assert manifest[f"{rank}/state"].keys == manifest["0/state"].keys
        assert not manifest[f"{rank}/state/mine"].replicated
        assert manifest[f"{rank}/state/rank"].get_value() == rank
    for name in ("same", "also", "tied", "text", "pair"):
        assert manifest[f"0/state/{name}"].replicated
        assert f"1/state/{name}" not in manifest
    assert manifest["0/state/tied"].byte_range == manifest["0/state/same"].byte_range
    assert "0/only here" not in manifest
    assert not manifest["1/only here/x"].replicated


def test_replicated_values_are_written_once_and_by_both(taken: list[dict[str, Any]]) -> None:
    manifest = taken[0]["manifest"]
    assert manifest["0/state/same"].location == "data/0_0.safetensors"
    assert manifest["0/state/also"].location == "data/1_0.safetensors"
    assert abs(taken[0]["bytes"] - taken[1]["bytes"]) < 2000


def test_values_that_differ_are_saved_per_rank_whatever_the_globs_say(taken: list[dict[str, Any]]) -> None:
    of_all = taken[0]["of all"]
    assert "0/state/mine" in of_all  # a tensor: nobody has compared its bytes
    assert not {"0/state/rank", "0/state/own", "0/rng/rng_state", "1/only here/x"} & set(of_all)
    [warning] = [text for text in taken[0]["warnings"] if "not the same on all ranks" in text]
    assert "state/own, state/rank" in warning
    assert "rng" not in warning


def test_each_rank_restores_its_own_values_and_those_of_all(taken: list[dict[str, Any]]) -> None:
    for rank, of_rank in enumerate(taken):
        assert of_rank["restored"] == [[float(rank)] * 3, rank, "the same", (rank, rank)]
        assert of_rank["drawn again"]
        assert of_rank["state"] == (rank, rank)


def test_takes_in_the_background_keep_what_was_there_when_they_were_called(taken: list[dict[str, Any]]) -> None:
    for rank, of_rank in enumerate(taken):
        assert of_rank["later"] == [[float(rank)] * 3] * 3
        assert all(of_rank["verified"])


def test_a_compressed_and_signed_snapshot_of_two_ranks_is_one(folder: Path, taken: list[dict[str, Any]]) -> None:
    assert taken
    snapshot = Snapshot(folder / "packed", signing_key=KEY)
    assert snapshot.verify()
    assert snapshot.read_object("1/state/rank") == 1
    assert {entry.location for path, entry in snapshot.get_manifest().items() if path.endswith("/mine")} == {
        "data/0_0.safetensors.zst",
        "data/1_0.safetensors.zst",
    }
    with pytest.raises(SignatureError):
        _ = Snapshot(folder / "packed", signing_key="another key of someone").metadata


def test_a_base_is_refused_on_several_ranks(taken: list[dict[str, Any]]) -> None:
    for of_rank in taken:
        assert isinstance(of_rank["refused"], UnsupportedError)


def test_groups_of_some_ranks_take_snapshots_of_their_own(taken: list[dict[str, Any]]) -> None:
    assert [of_rank["world sizes"] for of_rank in taken] == [[2, 2, 1], [2, 2, 1]]


def test_one_process_reads_what_any_rank_has_saved(folder: Path, taken: list[dict[str, Any]]) -> None:
    assert taken
    snapshot = Snapshot(folder / "plain")
    assert [snapshot.read_object(f"{rank}/state/mine").tolist() for rank in (0, 1)] == [[0.0] * 3, [1.0] * 3]
    assert snapshot.read_object("17/state/same").shape == (1000,)
    with pytest.raises(StateMismatchError, match=r"saved per rank, by ranks 0\.\.1"):
        snapshot.read_object("17/state/mine")


def test_a_folder_that_a_rank_does_not_see_is_an_error_about_the_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="storage that all of them share"):
        JoinedDirectory(str(tmp_path / ".step.tmp-0"), str(tmp_path / "step"))


def test_a_folder_that_was_given_up_is_not_made_again(tmp_path: Path) -> None:
    root = tmp_path / ".step.tmp-0"
    root.mkdir()
    joined = JoinedDirectory(str(root), str(tmp_path / "step"))
    joined.write("data/a", b"1")
    (root / "data/a").unlink()
    (root / "data").rmdir()
    root.rmdir()
    with pytest.raises(FileNotFoundError):
        joined.write("objects/1/b", b"2")
    assert list(tmp_path.iterdir()) == []

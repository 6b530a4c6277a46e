"""`sucrose convert`: from each kind of checkpoint to each, bit for bit."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from bitwise import assert_same, raw_bytes
from checkpoint_commands import Sucrose, contents, damage, nested_state, random_tensor, take, weights
from safetensors.torch import load_file, save_file
from shared_by_ranks import add_rank

import sucrose as package
from sucrose import Snapshot, StateDict
from sucrose.interchange.conversion import convert
from sucrose.interchange.differences import compare
from sucrose.interchange.sources import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIXES = {"snapshot": "", "safetensors": ".safetensors", "torch": ".pt", "dcp": ".dcp"}


@pytest.fixture(scope="module")
def sucrose() -> Iterator[Sucrose]:
    command = Sucrose(with_torch=True)
    yield command
    command.close()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The state in each kind, as the kind's own writer makes it."""
    folder = tmp_path_factory.mktemp("sources")
    state = nested_state()
    paths = {kind: folder / f"source{suffix}" for kind, suffix in SUFFIXES.items()}
    take(paths["snapshot"], state)
    torch.save(state, paths["torch"])
    package_free = {name: value for name, value in weights().items() if value.dtype is not torch.complex128}
    package_free = {name: value.clone().contiguous() for name, value in package_free.items()}
    save_file(package_free, paths["safetensors"])
    dcp.save(state, storage_writer=dcp.FileSystemWriter(paths["dcp"]), no_dist=True)
    return paths


def tensors_in(tree: Any, path: str = "") -> dict[str, torch.Tensor]:
    """All tensors by the text of the keys that lead to them."""
    if isinstance(tree, torch.Tensor):
        return {path: tree}
    items = enumerate(tree) if isinstance(tree, list) else tree.items() if isinstance(tree, dict) else ()
    return {
        name: tensor for key, value in items for name, tensor in tensors_in(value, f"{path}.{key}".lstrip(".")).items()
    }


def read(path: Path, kind: str) -> dict[str, torch.Tensor]:
    """All tensors of a target, by the reader that everybody has for its kind."""
    if kind == "snapshot":
        return tensors_in(contents(path))
    if kind == "torch":
        return tensors_in(torch.load(path, weights_only=True))
    if kind == "safetensors":
        return {name.replace("%2F", "\0").replace("/", ".").replace("\0", "/").replace("%25", "%"): tensor
                for name, tensor in load_file(path).items()}  # fmt: skip
    names = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
    state: dict[str, Any] = {
        name: torch.empty(record.size, dtype=record.properties.dtype)
        for name, record in names.items()
        if hasattr(record, "size")
    }
    dcp.load(state, storage_reader=dcp.FileSystemReader(path), no_dist=True)
    return state


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("target_kind", SUFFIXES)
@pytest.mark.parametrize("source_kind", SUFFIXES)
def test_every_tensor_survives_from_each_kind_to_each(
    sucrose: Sucrose, sources: dict[str, Path], tmp_path: Path, source_kind: str, target_kind: str
) -> None:
    target = tmp_path / f"target{SUFFIXES[target_kind]}"
    report = sucrose.json("convert", sources[source_kind], target, "--to", target_kind)
    assert (report["source_kind"], report["target_kind"]) == (source_kind, target_kind)
    expected = tensors_in(nested_state()) if source_kind != "safetensors" else load_file(sources["safetensors"])
    if target_kind == "snapshot" and source_kind == "safetensors":
        expected = {f"state.{name}": tensor for name, tensor in expected.items()}
    found = read(target, target_kind)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        if target_kind == "safetensors" and tensor.dtype is torch.complex128:
            assert raw_bytes(found[name]) == raw_bytes(tensor)  # the format has no name for it
        else:
            assert_same(found[name].detach(), tensor, name)
    assert report["tensors"] == len(expected)
    assert [file.name for file in tmp_path.iterdir()] == [target.name]  # nothing is left beside it


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_everything_survives_where_the_target_can_hold_it(
    sucrose: Sucrose, sources: dict[str, Path], tmp_path: Path
) -> None:
    state = nested_state()
    for kind in ("snapshot", "torch"):
        assert sucrose.json("convert", sources[kind], tmp_path / f"{kind}.pt")["notes"] == []
        loaded = torch.load(tmp_path / f"{kind}.pt", weights_only=True)
        assert_same(loaded, state)
        assert (
            loaded["model"]["head.weight"].untyped_storage()._cdata
            == loaded["model"]["embedding.weight"].untyped_storage()._cdata
        )
    report = sucrose.json("convert", tmp_path / "torch.pt", tmp_path / "back", "--compression", "zstd")
    assert report["notes"] == []
    assert_same(contents(tmp_path / "back"), state)
    manifest = Snapshot(tmp_path / "back").get_manifest()
    assert manifest["0/model/head.weight"].byte_range == manifest["0/model/embedding.weight"].byte_range


def test_what_the_target_cannot_hold_is_said(sucrose: Sucrose, sources: dict[str, Path], tmp_path: Path) -> None:
    notes = "\n".join(sucrose.lines("convert", sources["snapshot"], tmp_path / "all.safetensors"))
    assert "7 values are left out" in notes
    assert "'optim/groups/0/lr'" in notes
    assert "1 empty container is left out: 'optim/nothing'" in notes
    assert "no nesting: names are keys joined with '/'" in notes
    assert "stored as bytes, as the format has no name for its dtype: 'model/layer.complex128'" in notes
    notes = "\n".join(sucrose.lines("convert", sources["snapshot"], tmp_path / "folder", "--to", "dcp"))
    assert "keys that are numbers: they become text: 'optim/state'" in notes
    assert "1 tensor shares memory with another one, and comes out separate: 'model/embedding.weight'" in notes


def test_a_safetensors_file_of_ours_becomes_nested_and_tied_again(sucrose: Sucrose, tmp_path: Path) -> None:
    state = {"model": dict(weights()), "more": {"a/b": {"c%": random_tensor(torch.complex128, 4)}}}
    take(tmp_path / "step_1", state)
    sucrose.run("convert", tmp_path / "step_1", tmp_path / "all.safetensors")
    sucrose.run("convert", tmp_path / "all.safetensors", tmp_path / "again")
    again = contents(tmp_path / "again")
    assert {name: raw_bytes(tensor) for name, tensor in tensors_in(again).items()} == {
        name: raw_bytes(tensor) for name, tensor in tensors_in(state).items()
    }
    assert again["more"]["a/b"]["c%"].dtype is torch.complex128
    manifest = Snapshot(tmp_path / "again").get_manifest()
    assert manifest["0/model/head.weight"].byte_range == manifest["0/model/embedding.weight"].byte_range


def test_one_stateful_alone_has_the_names_that_other_programs_expect(sucrose: Sucrose, tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    Snapshot.take(tmp_path / "step_1", {"model": model, "progress": StateDict(step=7)})
    report = sucrose.json("convert", tmp_path / "step_1", tmp_path / "model.safetensors", "--key", "model")
    assert report["notes"] == []
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert_same(other.state_dict()["0.weight"], model.state_dict()["0.weight"])
    sucrose.run("convert", tmp_path / "model.safetensors", tmp_path / "again", "--key", "model")
    Snapshot(tmp_path / "again").restore({"model": other})
    sucrose.run("convert", tmp_path / "step_1", tmp_path / "model.pt", "--key", "model")
    loaded = torch.load(tmp_path / "model.pt", weights_only=True)
    assert loaded._metadata == model.state_dict()._metadata  # the versions of its modules
    assert "'model'" in sucrose.error("convert", tmp_path / "step_1", tmp_path / "x.pt", "--key", "modle")


def test_names_are_joined_as_asked_for_and_never_two_to_one(sucrose: Sucrose, tmp_path: Path) -> None:
    state = {"a": {"b": {"c": torch.ones(1)}}, "d": {"e.f": torch.ones(2)}}
    path = take(tmp_path / "step_1", state)
    sucrose.run("convert", path, tmp_path / "dots.safetensors", "--flat-separator", ".")
    assert set(load_file(tmp_path / "dots.safetensors")) == {"a.b.c", "d.e.f"}
    clash = take(tmp_path / "step_2", {"a": {"b": {"c": torch.ones(1)}, "b.c": torch.ones(2)}})
    line = sucrose.error("convert", clash, tmp_path / "clash.safetensors", "--flat-separator", ".")
    assert "'a/b/c'" in line
    assert "'a/b.c'" in line
    assert not (tmp_path / "clash.safetensors").exists()


def test_a_state_that_is_no_dict_of_dicts_gets_a_name(sucrose: Sucrose, tmp_path: Path) -> None:
    for number, (state, expected) in enumerate(
        [
            ({"w": torch.ones(2), "n": 3}, {"w": torch.ones(2), "n": 3}),
            ([torch.ones(2), "text"], {"value": [torch.ones(2), "text"]}),
        ]
    ):
        torch.save(state, tmp_path / f"{number}.pt")
        lines = sucrose.lines("convert", tmp_path / f"{number}.pt", tmp_path / f"step_{number}")
        assert "all of it is called 'state'" in lines[1]
        assert_same(contents(tmp_path / f"step_{number}"), {"state": expected})


def test_a_snapshot_with_a_base_or_compressed_converts_like_any_other(sucrose: Sucrose, tmp_path: Path) -> None:
    state = StateDict(frozen=torch.randn(1 << 20), trained=torch.zeros(8))
    base = Snapshot.take(tmp_path / "step_1", {"state": state})
    state["trained"] += 1
    Snapshot.take(tmp_path / "step_2", {"state": state}, base=base, compression="zstd")
    sucrose.run("convert", tmp_path / "step_2", tmp_path / "state.pt")
    assert_same(torch.load(tmp_path / "state.pt", weights_only=True), {"state": dict(state)})


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_rank_takes_along_what_it_shares_with_others(tmp_path: Path, compression: str) -> None:
    state = {
        "model": weights(),
        "rest": {"own": torch.ones(2), "lists": [[torch.ones(3)], {"step": 7}], "nothing": {}},
    }
    add_rank(take(tmp_path / "step_1", state, compression=compression), own=("rest/own",))
    source = open_source(tmp_path / "step_1", rank=1)
    convert(tmp_path / "step_1", tmp_path / "a.pt", rank=1)
    assert_same(torch.load(tmp_path / "a.pt"), state)
    convert(tmp_path / "step_1", tmp_path / "model.pt", rank=1, key="model")
    assert_same(torch.load(tmp_path / "model.pt"), state["model"])
    comparison = compare(source, open_source(tmp_path / "a.pt"))
    assert (comparison.changes, comparison.n_same) == ((), len(state["model"]) + 4)


def test_cat_reads_for_a_rank_what_another_has_written(sucrose: Sucrose, tmp_path: Path) -> None:
    add_rank(take(tmp_path / "step_1", {"s": {"w": torch.ones(2), "n": [5]}}), own=())
    assert sucrose.json("cat", tmp_path / "step_1", "1/s/w")["numel"] == 2
    assert sucrose.json("cat", tmp_path / "step_1", "1/s/n/0")["value"] == 5


@pytest.mark.filterwarnings("ignore")  # of torch, about quantized tensors and storages of its own
def test_a_snapshot_of_torchsnapshots_own_converts(tmp_path: Path) -> None:
    folder = Path(__file__).parents[1] / "golden" / "torchsnapshot_0.1.0" / "snapshot"
    report = convert(folder, tmp_path / "all.pt", allow_pickle=True)
    assert report.tensors > 0
    opened = [open_source(path, allow_pickle=True) for path in (folder, tmp_path / "all.pt")]
    assert compare(*opened).changes == ()


def test_a_pickle_that_could_run_code_is_refused_and_runs_none(sucrose: Sucrose, tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "bad": _Touching(str(tmp_path / "touched"))}, tmp_path / "bad.pt")
    (tmp_path / "bad.dcp").mkdir()
    (tmp_path / "bad.dcp" / ".metadata").write_bytes(pickle.dumps(_Touching(str(tmp_path / "touched"))))
    for name in ("bad.pt", "bad.dcp"):
        for command in (("convert", tmp_path / name, tmp_path / "out"), ("show", tmp_path / name)):
            line = sucrose.error(*command)
            assert "weights_only" in line or "--allow-pickle" in line
        sucrose.error("diff", tmp_path / name, tmp_path / name, status=2)
    sucrose.run("verify", tmp_path / "bad.pt")
    assert not (tmp_path / "touched").exists()
    assert not (tmp_path / "out").exists()
    sucrose.run("convert", tmp_path / "bad.pt", tmp_path / "out.pt", "--allow-pickle")
    assert (tmp_path / "touched").exists()


def test_damage_of_the_source_is_an_error_and_nothing_is_written(
    sucrose: Sucrose, sources: dict[str, Path], tmp_path: Path
) -> None:
    path = take(tmp_path / "step_1", {"s": {"w": torch.ones(1000)}})
    damage(path / "data" / "0_0.safetensors", -1)
    assert "chunk 0" in sucrose.error("convert", path, tmp_path / "out.pt")
    torch.save({"w": torch.ones(1000)}, tmp_path / "w.pt")
    damage(tmp_path / "w.pt", 2000)
    assert "CRC-32" in sucrose.error("convert", tmp_path / "w.pt", tmp_path / "out.safetensors")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["step_1", "w.pt"]


def test_a_target_is_only_replaced_where_that_is_asked_for(sucrose: Sucrose, tmp_path: Path) -> None:
    path = take(tmp_path / "step_1", {"s": {"w": torch.ones(3)}})
    package.save({"old": 1}, tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()
    assert "--overwrite" in sucrose.error("convert", path, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == before
    sucrose.run("convert", path, tmp_path / "model.pt", "--overwrite")
    assert_same(torch.load(tmp_path / "model.pt"), {"s": {"w": torch.ones(3)}})
    (tmp_path / "notes.pt").write_text("not a checkpoint")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.tex").write_text("ten years")
    for name in ("notes.pt", "folder"):
        line = sucrose.error("convert", path, tmp_path / name, "--overwrite")
        assert "no checkpoint" in line
        assert "Errno" not in line
    assert (tmp_path / "folder" / "thesis.tex").read_text() == "ten years"
    assert "the same" in sucrose.error("convert", path, path, "--overwrite")
    for _ in range(2):
        sucrose.run("convert", path, tmp_path / "dcp", "--to", "dcp", "--overwrite")


def test_wrong_arguments_are_said_before_anything_is_read(sucrose: Sucrose, tmp_path: Path) -> None:
    path = take(tmp_path / "step_1", {"s": {"w": torch.ones(3)}})
    for target, *options, told in (
        ("model.onnx", "--to"),
        ("m", "--to", "onnx", "--to"),
        ("m.pt", "--compression", "zstd", "--compression"),
        ("m", "--compression", "lz4", "--compression"),
        ("m.safetensors", "--flat-separator", "", "--flat-separator"),
    ):
        done = sucrose.run("convert", tmp_path / "nothing", tmp_path / target, *options, status=2)
        assert told in done.stderr
        assert done.stdout == ""
    assert "no such folder" in sucrose.error("convert", path, tmp_path / "no" / "m.pt")
    assert "No such file" in sucrose.error("convert", tmp_path / "nothing", tmp_path / "m.pt")


class _Touching:
    """Unpickling it makes a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self._path,)

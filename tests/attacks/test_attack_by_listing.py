"""What the commands look at: names, shapes and nesting that are made to be expensive, or wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from forged_snapshots import forge

from sucrose import Catalog, Snapshot, StateDict
from sucrose.catalog.generation import Generation
from sucrose.cli.formatting import show_table
from sucrose.cli.tree_lines import tree_of, tree_rows
from sucrose.errors import CorruptionError, SignatureError, StateMismatchError, SucroseError, UnsupportedError
from sucrose.formats.generation import GENERATION_FILE, MAX_COUNT, decode_generation, encode_generation
from sucrose.interchange.conversion import convert
from sucrose.interchange.kinds import recognize
from sucrose.interchange.listing import Listed, tensor_nbytes
from sucrose.interchange.safetensors_listing import DTYPES, SEPARATOR, list_safetensors
from sucrose.interchange.snapshot_listing import list_snapshot
from sucrose.interchange.sources import open_source


def safetensors_file(path: Path, tensors: dict[str, list[int]], metadata: dict[str, str]) -> Path:
    """Tensors of bytes, by their shapes."""
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name, shape in tensors.items():
        nbytes = shape[0]
        header[name] = {"dtype": "U8", "shape": shape, "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Snapshot.take(tmp_path / "s", {"state": StateDict(weight=torch.arange(6.0), other=torch.ones(6))})
    return tmp_path / "s"


SHAPES: dict[str, Any] = {
    "a size of 400 digits": ["torch.quint4x2", [10**400]],
    "many sizes": ["torch.bool", [1 << 61] * 65],
    "a dtype of many bits": ["torch.int" + "9" * 5000, [1]],
    "a negative size": ["torch.int8", [-1]],
}


@pytest.mark.parametrize("what", SHAPES)
def test_shapes_beside_a_header_are_held_to_the_same_limits(tmp_path: Path, what: str) -> None:
    file = safetensors_file(tmp_path / "a.safetensors", {"w": [1]}, {DTYPES: json.dumps({"w": SHAPES[what]})})
    try:
        [entry] = list_safetensors(str(file))[0].values()
    except CorruptionError:
        return
    assert (entry.dtype, entry.shape) == ("torch.uint8", (1,))


def test_sizes_are_whole_numbers_however_large() -> None:
    assert tensor_nbytes("torch.quint4x2", [3]) == 2
    assert tensor_nbytes("torch.bool", [(1 << 62) - 1] * 64) == ((1 << 62) - 1) ** 64
    assert tensor_nbytes("torch.int1234", [1]) is None


def test_names_with_a_thousand_levels_become_no_containers(tmp_path: Path) -> None:
    file = safetensors_file(tmp_path / "a.safetensors", {"a/" * 5000 + "w": [1]}, {SEPARATOR: "/"})
    with pytest.raises(UnsupportedError, match="levels"):
        convert(file, tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


def test_a_tree_has_no_more_levels_than_a_state_could_have() -> None:
    tree = tree_of([Listed(path="a/" * 50_000 + "w", type="int", value=1)], with_ranks=False)
    rows = tree_rows(tree, sort=None, depth=None)
    assert len(rows) == 301
    assert rows[-1][0].endswith("a/w")


def test_one_long_name_does_not_make_all_lines_long(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([("name", "size"), ("a" * 100_000, "1"), *[("b", "2")] * 100])
    assert len(capsys.readouterr().out) < 100_000 + 102 * 500


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsupportedError, match="no regular file"):
        recognize(tmp_path / "pipe")


def test_a_rank_that_is_no_number_of_one_is_listed_as_the_first(folder: Path) -> None:
    forge(folder, lambda metadata, index: metadata["manifest"].update({"9" * 5000 + "/x": {"type": "list"}}))
    assert {entry.rank for entry in list_snapshot(folder).entries} == {0}


def test_a_tensor_of_many_ranks_is_put_together_once(folder: Path) -> None:
    """For each of them it would be all shards: two hundred million."""
    ranks = 15_000

    def spread(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        part = {**metadata["manifest"]["0/state/weight"], "shape": [0], "byte_range": [0, 0]}
        metadata["world_size"] = ranks
        for rank in range(ranks):
            shard = {"offsets": [rank], "sizes": [1], "tensor": part}
            metadata["manifest"][f"{rank}/w"] = {"type": "ShardedTensor", "shards": [shard]}

    forge(folder, spread)
    entries = [entry for entry in list_snapshot(folder).entries if entry.path == "w"]
    assert len(entries) == ranks
    assert {entry.shape for entry in entries} == {(ranks,)}
    assert len({entry.rank for entry in entries}) == ranks


def test_a_list_that_many_ranks_share_is_gone_through_once(folder: Path) -> None:
    """For each of them it would be all items: a hundred million."""
    ranks = items = 10_000

    def share(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        item = {"type": "int", "serialized_value": "1", "replicated": True}
        metadata["world_size"] = ranks
        metadata["manifest"].update({f"{rank}/list": {"type": "list"} for rank in range(ranks)})
        metadata["manifest"].update({f"0/list/{number}": item for number in range(items)})

    forge(folder, share)
    entries = [entry for entry in list_snapshot(folder).entries if entry.path.startswith("list")]
    assert sum(entry.rank == 0 for entry in entries) == items
    assert [entry.same_as for entry in entries if entry.rank] == ["0/list"] * (ranks - 1)


def test_a_conversion_makes_no_more_of_a_file_than_there_is(folder: Path, tmp_path: Path) -> None:
    def overlap(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        entry = metadata["manifest"]["0/state/weight"]
        begin, end = entry["byte_range"]
        names = [f"part_{number}" for number in range(1000)]
        metadata["manifest"]["0/state"]["keys"] += names
        for number, name in enumerate(names):
            n_less = number % 5
            place = {"shape": [(end - begin) // 4 - n_less], "byte_range": [begin, end - 4 * n_less]}
            metadata["manifest"][f"0/state/{name}"] = {**entry, **place, "location": entry["location"]}
        for number in range(1500):  # ranges of every length at every place
            first = begin + number
            place = {"dtype": "torch.uint8", "shape": [4096], "byte_range": [first, first + 4096]}
            metadata["manifest"][f"0/state/x{number}"] = {**entry, **place}
            metadata["manifest"]["0/state"]["keys"].append(f"x{number}")

    Snapshot.take(folder, {"state": StateDict(weight=torch.zeros(3000))}, overwrite=True)
    forge(folder, overlap)
    with pytest.raises(CorruptionError, match="overlap"):
        convert(folder, tmp_path / "a.pt")


def test_a_container_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    forge(folder, lambda metadata, index: metadata["manifest"].pop("0/state"))
    with pytest.raises(SucroseError):
        convert(folder, tmp_path / "a.pt")


def test_containers_that_are_nested_too_deeply_are_not_converted(folder: Path, tmp_path: Path) -> None:
    def nest(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        path = "0/state/weight"
        for _ in range(2000):
            metadata["manifest"][path] = {"type": "list"}
            path += "/0"
        metadata["manifest"][path] = {"type": "list"}

    forge(folder, nest)
    with pytest.raises(CorruptionError, match="nested"):
        convert(folder, tmp_path / "a.pt")
    with pytest.raises(CorruptionError, match="nested"):
        Snapshot(folder).read_objects(["0/state"])


@pytest.mark.parametrize("to", ["a.pt", "a.safetensors"])
def test_what_is_changed_after_it_was_verified_is_not_converted_under_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """Mapped memory would show the new bytes."""
    monkeypatch.setenv("SUCROSE_SIGNING_KEY", "correct horse battery staple")
    Snapshot.take(tmp_path / "s", {"state": StateDict(weight=torch.ones(5000))})
    verified = Snapshot.verify

    def then_changed(snapshot: Snapshot) -> Any:
        report = verified(snapshot)
        data = tmp_path / "s" / "data" / "0_0.safetensors"
        data.write_bytes(data.read_bytes()[:-4] + b"evil")
        return report

    monkeypatch.setattr(Snapshot, "verify", then_changed)
    convert(tmp_path / "s", tmp_path / to, key="state")
    [weight] = open_source(tmp_path / to).read(["weight"])
    assert torch.equal(weight, torch.ones(5000))


def test_a_key_is_demanded_by_everything_that_reads_a_snapshot(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUCROSE_SIGNING_KEY", "correct horse battery staple")
    for read in (list_snapshot, lambda path: open_source(path).entries(), lambda path: open_source(path).tree()):
        with pytest.raises(SignatureError):
            read(folder)
    with pytest.raises(SignatureError):
        convert(folder, tmp_path / "a.pt")
    with pytest.raises(SignatureError):
        Snapshot(folder).flatten(tmp_path / "flat")
    assert not (tmp_path / "flat").exists()


def test_ranks_that_are_not_there_are_no_empty_checkpoints(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StateMismatchError, match="rank 7"):
        convert(folder, tmp_path / "a.pt", rank=7)
    assert not (tmp_path / "a.pt").exists()


def test_a_generation_at_the_end_of_all_numbers_does_not_spoil_those_after_it(tmp_path: Path) -> None:
    """Records that count on from there could not be read again: the saves would be lost."""
    catalog = Catalog(tmp_path / "c")
    planted: Generation = catalog.save(MAX_COUNT, {"state": StateDict(a=1)})
    path = Path(planted.path) / GENERATION_FILE
    record = decode_generation(path.read_bytes(), path=str(path))
    for changes in ({"timeline": MAX_COUNT}, {"committed_ns": MAX_COUNT}):
        data = json.loads(encode_generation(record).partition(b"\n")[0]) | changes
        path.write_bytes(encode_generation(type(record)(**data)))
        again = Catalog(tmp_path / "c")
        try:
            saved = again.save(3 if "timeline" in changes else MAX_COUNT, {"state": StateDict(a=1)})
        except CorruptionError as error:
            assert "timeline" in changes, error  # noqa: PT017 - it is allowed in one case only
        else:
            assert saved.id in {generation.id for generation in again.generations()}
            assert "committed_ns" in changes

"""`sucrose show`: a checkpoint's entries. None of these commands can import torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from checkpoint_commands import Sucrose, damage, nested_state, take
from command_line import SOURCES
from golden.make_golden_ranks import sample_of
from safetensors.torch import save_file
from shared_by_ranks import add_rank

from sucrose import Snapshot, StateDict

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def sucrose() -> Iterator[Sucrose]:
    command = Sucrose(with_torch=False)
    yield command
    command.close()


def names_in(lines: list[str]) -> list[str]:
    """The names of a tree, without its lines."""
    tree = lines[1 : lines.index("")]
    return [line.lstrip("│├└─ ").split("  ")[0] for line in tree]


def test_show_tells_shape_dtype_and_size_of_every_entry(sucrose: Sucrose, tmp_path: Path) -> None:
    state = nested_state()
    entries = {entry["path"]: entry for entry in sucrose.json("show", take(tmp_path / "step_1", state))["entries"]}
    for name, tensor in state["model"].items():
        entry = entries[f"model/{name}"]
        assert (entry["dtype"], entry["shape"]) == (str(tensor.dtype), list(tensor.shape))
        assert entry["nbytes"] == tensor.nbytes
    assert entries["optim/groups/0/lr"]["value"] == 0.1
    assert entries["optim/big"]["value"] == 1 << 70
    assert entries["optim/groups/0/betas"]["obj_type"] == "builtins.tuple"
    assert entries["optim/nothing"]["type"] == "dict"
    assert "optim/a%2Fb" in entries


def test_show_draws_a_tree_with_its_names_as_text(sucrose: Sucrose, tmp_path: Path) -> None:
    lines = sucrose.lines("show", take(tmp_path / "step_1", nested_state()))
    assert lines[0].split() == ["name", "dtype", "shape", "size"]
    names = names_in(lines)
    assert names[0] == "model"
    assert {"a/b", r"[red]重み\x1b[31m%", "layer.bfloat16"} <= set(names)
    [row] = [line for line in lines if "layer.bfloat16" in line]
    assert row.split()[-5:] == ["bfloat16", "[3,", "5]", "30", "B"]


def test_sizes_stand_below_each_other_beside_names_of_wide_letters(sucrose: Sucrose, tmp_path: Path) -> None:
    state = {"s": {"重み": torch.ones(3), "weight": torch.ones(3)}}
    wide, narrow = [line for line in sucrose.lines("show", take(tmp_path / "step_1", state)) if "[3]" in line]
    assert narrow.index("float32") - wide.index("float32") == 2  # two letters that take two columns each


@pytest.mark.parametrize(
    ("sort", "expected"),
    [("name", ["big", "medium", "small"]), ("size", ["big", "medium", "small"]), ("dtype", ["small", "big", "medium"])],
)
def test_show_sorts(sucrose: Sucrose, tmp_path: Path, sort: str, expected: list[str]) -> None:
    state = {"s": {"medium": torch.ones(20), "small": torch.ones(1, dtype=torch.bool), "big": torch.ones(30)}}
    take(tmp_path / "step_1", state)
    assert names_in(sucrose.lines("show", tmp_path / "step_1"))[1:] == ["medium", "small", "big"]
    assert names_in(sucrose.lines("show", tmp_path / "step_1", "--sort", sort))[1:] == expected


def test_show_sums_up_what_lies_deeper_than_asked_for(sucrose: Sucrose, tmp_path: Path) -> None:
    state = {"model": {"a": torch.ones(10), "b": torch.ones(5), "n": 3}, "rest": {"c": 1}}
    lines = sucrose.lines("show", take(tmp_path / "step_1", state), "--depth", "1")
    assert names_in(lines) == ["model", "rest"]
    assert "2 tensors, 1 value" in lines[1]
    assert lines[1].endswith("60 B")


def test_a_text_has_the_size_that_it_has(sucrose: Sucrose, tmp_path: Path) -> None:
    path = take(tmp_path / "step_1", {"s": {"text": "λ" * 1000, "blob": bytes(48), "n": 3}})
    sizes = {entry["path"]: entry["nbytes"] for entry in sucrose.json("show", path)["entries"]}
    assert sizes == {"s/text": 2000, "s/blob": 48, "s/n": None}
    assert sucrose.lines("show", path, "--depth", "1")[1].endswith("3 values  2.0 KiB")


def test_totals_count_tied_tensors_once(sucrose: Sucrose, tmp_path: Path) -> None:
    shared = torch.ones(10)
    state = {"s": {"a": shared, "b": shared, "c": torch.ones(4), "i": torch.ones(2, dtype=torch.int64)}}
    take(tmp_path / "step_1", state)
    content = sucrose.json("show", tmp_path / "step_1")
    assert content["totals"] == [
        {"dtype": "torch.float32", "tensors": 3, "numel": 14, "nbytes": 56, "tied": 1},
        {"dtype": "torch.int64", "tensors": 1, "numel": 2, "nbytes": 16, "tied": 0},
    ]
    assert any("1 of these is tied" in line for line in sucrose.lines("show", tmp_path / "step_1"))


def test_show_tells_what_compression_has_saved(sucrose: Sucrose, tmp_path: Path) -> None:
    take(tmp_path / "step_1", {"s": {"zeros": torch.zeros(1 << 20)}}, compression="zstd")
    content = sucrose.json("show", tmp_path / "step_1")
    on_disk = (tmp_path / "step_1" / "data").iterdir()
    assert content["nbytes_on_disk"] == sum(file.stat().st_size for file in on_disk) < 100_000
    assert content["compression_ratio"] == content["nbytes"] / content["nbytes_on_disk"] > 40
    assert any("compressed by" in line for line in sucrose.lines("show", tmp_path / "step_1"))


def test_show_names_the_snapshots_that_this_one_needs(sucrose: Sucrose, tmp_path: Path) -> None:
    state = StateDict(frozen=torch.ones(2 << 20), trained=torch.zeros(8))
    base = Snapshot.take(tmp_path / "step_1", {"state": state})
    state["trained"] += 1
    Snapshot.take(tmp_path / "step_2", {"state": state}, base=base)
    content = sucrose.json("show", tmp_path / "step_2")
    assert content["bases"] == [str(tmp_path / "step_1")]
    assert content["nbytes_in_bases"] >= 8 << 20
    assert {entry["path"]: entry["nbytes"] for entry in content["entries"]}["state/frozen"] == 8 << 20
    assert f"needs {tmp_path / 'step_1'}" in sucrose.lines("show", tmp_path / "step_2")


@pytest.fixture
def of_two_ranks(tmp_path: Path) -> Path:
    """A model that both ranks share, and a dict and a list that they share a part of; some are empty in truth."""
    state = {
        "model": {"layers": [{"weight": torch.ones(3), "bias": torch.ones(1)}, torch.ones(2)], "rates": [0.1, 0.2]},
        "rest": {"common": torch.ones(4), "own": torch.ones(5), "mixed": [1, 2, 3], "nothing": {}, "none": []},
    }
    add_rank(take(tmp_path / "step_1", state), own=("rest/own", "rest/mixed/1"))
    return tmp_path / "step_1"


def test_what_ranks_share_is_shown_under_the_second_one_by_where_it_stands(
    sucrose: Sucrose, of_two_ranks: Path
) -> None:
    lines = sucrose.lines("show", of_two_ranks)
    second = [" ".join(line.strip("│├└─ ").split()) for line in lines[lines.index("└── rank 1") + 1 : lines.index("")]]
    assert second == [
        "model dict as 0/model",
        "rest",
        "common Tensor as 0/rest/common",
        "own float32 [5] 20 B",
        "mixed",
        "0 int as 0/rest/mixed/0",
        "1 int 2",
        "2 int as 0/rest/mixed/2",
        "nothing dict empty",
        "none list empty",
    ]
    assert "others replicated" in sucrose.lines("show", of_two_ranks, "--depth", "1")[2]
    content = sucrose.json("show", of_two_ranks)
    assert {(entry["path"], entry["same_as"]) for entry in content["entries"] if "same_as" in entry} == {
        ("model", "0/model"),
        ("rest/common", "0/rest/common"),
        ("rest/mixed/0", "0/rest/mixed/0"),
        ("rest/mixed/2", "0/rest/mixed/2"),
    }
    assert [total["tensors"] for total in content["totals"]] == [6]


def test_show_of_ranks_counts_a_tensor_that_is_spread_over_them_once(sucrose: Sucrose) -> None:
    content = sucrose.json("show", sample_of(4) / "snapshot")
    assert {entry["same_as"] for entry in content["entries"] if entry["path"] == "equal" and entry["rank"]} == {
        "0/equal"
    }
    totals = {total["dtype"]: (total["tensors"], total["tied"]) for total in content["totals"]}
    assert totals["torch.float64"] == (1, 0)


def test_show_reads_the_header_of_a_safetensors_file(sucrose: Sucrose, tmp_path: Path) -> None:
    save_file({"w": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}, tmp_path / "model.anything")
    content = sucrose.json("show", tmp_path / "model.anything")
    assert content["kind"] == "safetensors"
    assert {(entry["path"], entry["dtype"], entry["nbytes"]) for entry in content["entries"]} == {
        ("w", "torch.float32", 24),
        ("b", "torch.bfloat16", 8),
    }


def test_show_of_something_else_says_what_is_wrong(sucrose: Sucrose, tmp_path: Path) -> None:
    assert "no-such" in sucrose.error("show", tmp_path / "no-such")
    assert "neither a snapshot nor" in sucrose.error("show", tmp_path)
    (tmp_path / "text").write_text("Once upon a time")
    assert "neither a safetensors file nor" in sucrose.error("show", tmp_path / "text")
    take(tmp_path / "step_1", {"s": {"w": torch.ones(3)}})
    damage(tmp_path / "step_1" / ".snapshot_metadata", 40)
    assert ".snapshot_metadata" in sucrose.error("show", tmp_path / "step_1")


def test_a_tree_can_be_read_where_the_terminal_has_no_lines_to_draw(tmp_path: Path) -> None:
    take(tmp_path / "step_1", {"s": {"w": torch.ones(3), "重み": torch.ones(3)}})
    done = subprocess.run(
        [sys.executable, "-m", "sucrose", "show", str(tmp_path / "step_1")],
        env={"PYTHONPATH": SOURCES, "PYTHONIOENCODING": "latin-1", "HOME": str(tmp_path)},
        capture_output=True,
        encoding="latin-1",
        check=True,
    )
    assert "`-- s" in done.stdout
    assert r"\u91cd\u307f" in done.stdout

"""`sucrose diff` and `sucrose cat`: what is different, and what one value is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from bitwise import assert_same
from checkpoint_commands import Sucrose, damage, nested_state, take
from safetensors.torch import load_file, save_file

from sucrose import Catalog, Snapshot, StateDict

if TYPE_CHECKING:
    from collections.abc import Iterator

SAME, DIFFERENT, TROUBLE = 0, 1, 2


@pytest.fixture(scope="module")
def sucrose() -> Iterator[Sucrose]:
    command = Sucrose(with_torch=True)
    yield command
    command.close()


def changes_in(content: dict[str, Any]) -> dict[str, str]:
    return {change["path"]: change["change"] for change in content["changes"]}


def test_the_same_state_is_the_same_in_every_kind_of_checkpoint(sucrose: Sucrose, tmp_path: Path) -> None:
    state = nested_state()
    snapshot = take(tmp_path / "step_1", state)
    compressed = take(tmp_path / "step_2", state, compression="zstd")
    torch.save(state, tmp_path / "all.pt")
    for other in (compressed, tmp_path / "all.pt"):
        content = sucrose.json("diff", snapshot, other, status=SAME)
        assert content["same"]
        assert content["n_same"] > 30
    sucrose.run("convert", snapshot, tmp_path / "model.safetensors", "--key", "model")
    sucrose.run("diff", snapshot, tmp_path / "model.safetensors", "--key", "model", status=SAME)


def test_each_kind_of_change_is_told(sucrose: Sucrose, tmp_path: Path) -> None:
    before = {"s": {
        "same": torch.ones(3), "gone": torch.ones(1), "moved": torch.tensor([1.0, -2.0, 4.0]), "shape": torch.ones(4),
        "dtype": torch.ones(2), "nan": torch.tensor([1.0, math.nan, math.nan]), "zero": torch.tensor(0.0),
        "big": torch.tensor([2**62], dtype=torch.int64), "step": 1, "name": "a", "pair": (1, 2), "lr": math.nan,
        "kind": torch.ones(1),
    }}  # fmt: skip
    after = {"s": {
        "same": torch.ones(3), "new": torch.ones(1), "moved": torch.tensor([1.0, -2.5, 4.0]), "shape": torch.ones(2, 2),
        "dtype": torch.ones(2, dtype=torch.float64), "nan": torch.tensor([math.nan, math.nan, 1.0]),
        "zero": torch.tensor(-0.0), "big": torch.tensor([2**62 + 1], dtype=torch.int64), "step": 2, "name": "a",
        "pair": (1, 3), "lr": math.nan, "kind": 1.0,
    }}  # fmt: skip
    a, b = take(tmp_path / "a", before), take(tmp_path / "b", after)
    content = sucrose.json("diff", a, b, status=DIFFERENT)
    found = {change["path"].removeprefix("s/"): change for change in content["changes"]}
    assert {name: change["change"] for name, change in found.items()} == {
        "gone": "removed", "new": "added",
        **dict.fromkeys(("moved", "shape", "dtype", "nan", "zero", "big", "step", "pair", "kind"), "changed"),
    }  # fmt: skip
    assert found["moved"]["difference"] == {"n_different": 1, "max_abs": 0.5, "max_relative": 0.2, "n_nan": 0}
    assert found["nan"]["difference"] == {"n_different": 2, "max_abs": 0.0, "max_relative": 0.0, "n_nan": 2}
    assert found["zero"]["difference"]["max_abs"] == 0
    assert found["big"]["difference"]["max_abs"] == 1  # which doubles of that size do not tell apart
    assert (found["shape"]["before"]["shape"], found["shape"]["after"]["shape"]) == ([4], [2, 2])
    assert (found["dtype"]["before"]["dtype"], found["dtype"]["after"]["dtype"]) == ("torch.float32", "torch.float64")
    assert (found["step"]["before"]["value"], found["step"]["after"]["value"]) == ("1", "2")
    assert (found["pair"]["before"]["value"], found["pair"]["after"]["value"]) == ("(1, 2)", "(1, 3)")
    lines = sucrose.lines("diff", a, b, status=DIFFERENT)
    assert lines[-1] == "1 added, 1 removed, 9 changed, 3 the same"
    assert any(line.split()[:2] == ["-", "s/gone"] for line in lines)


def test_a_tolerance_lets_small_differences_pass_and_no_nan(sucrose: Sucrose, tmp_path: Path) -> None:
    for name, value, nan in (("a", 1.0, 0.0), ("b", 1.25, 0.0), ("c", 1.0, math.nan)):
        save_file({"w": torch.full((5,), value), "n": torch.tensor(nan)}, tmp_path / f"{name}.safetensors")
    a, b, c = (tmp_path / f"{name}.safetensors" for name in "abc")
    sucrose.run("diff", a, b, status=DIFFERENT)
    sucrose.run("diff", a, b, "--atol", "0.25", status=SAME)
    sucrose.run("diff", a, b, "--rtol", "0.2", status=SAME)
    sucrose.run("diff", a, b, "--atol", "0.2", status=DIFFERENT)
    assert changes_in(sucrose.json("diff", a, c, "--atol", "1e9", status=DIFFERENT)) == {"n": "changed"}


def test_trouble_has_a_status_of_its_own(sucrose: Sucrose, tmp_path: Path) -> None:
    path = take(tmp_path / "a", {"s": {"w": torch.ones(1000)}})
    assert "no-such" in sucrose.error("diff", path, tmp_path / "no-such", status=TROUBLE)
    assert "'t'" in sucrose.error("diff", path, path, "--key", "t", status=TROUBLE)
    damage(path / "data" / "0_0.safetensors", -1)
    assert "'0/s/w'" in sucrose.error("diff", path, path, status=TROUBLE)
    done = sucrose.run("--debug", "diff", path, path, status=TROUBLE)
    assert "Traceback" in done.stderr
    assert "CorruptionError" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("show", "runs"), 1),
        (("cat", "runs", "s/w"), 1),
        (("diff", "runs", "runs"), TROUBLE),
        (("convert", "runs", "a.pt"), 1),
        (("flatten", "runs"), 1),
    ],
    ids=["show", "cat", "diff", "convert", "flatten"],
)
def test_a_catalog_in_the_place_of_a_snapshot_is_told_with_what_lists_it(
    sucrose: Sucrose, tmp_path: Path, arguments: tuple[str, ...], status: int
) -> None:
    generation = Catalog(tmp_path / "runs").save(1, {"s": StateDict(w=torch.ones(3))})
    folder = tmp_path / "runs"
    line = sucrose.error(*[folder if part == "runs" else part for part in arguments], status=status)
    assert f"'sucrose ls {folder}' lists; one of them is {generation.id}" in line


def test_cat_sums_a_tensor_up(sucrose: Sucrose, tmp_path: Path) -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [math.inf, math.nan, 0.0]])
    path = take(tmp_path / "a", {"s": {"w": values, "b": torch.tensor([2**63 + 1, 5], dtype=torch.uint64)}})
    content = sucrose.json("cat", path, "s/w")
    expected = {"shape": [2, 3], "numel": 6, "nbytes": 24, "min": 0.0, "max": 3.0, "mean": 1.5, "n_nan": 1, "n_inf": 1}
    assert {name: content[name] for name in expected} == expected
    assert content["std"] == pytest.approx(np.std([1, 2, 3, 0], ddof=1))
    assert content["first"] == [1.0, 2.0, 3.0, "inf", "nan", 0.0]
    assert sucrose.json("cat", path, "0/s/b")["max"] == 2**63 + 1
    assert sucrose.json("cat", path, "s/w", "--slice", "0, 1:")["first"] == [2.0, 3.0]
    assert "mean: 1.5" in sucrose.lines("cat", path, "s/w")


def test_cat_shows_primitives_and_objects(sucrose: Sucrose, tmp_path: Path) -> None:
    path = take(tmp_path / "a", {"s": {"step": 7, "pair": (1, "x"), "blob": b"\xff", "name": "a\x1b[31m"}})
    assert sucrose.json("cat", path, "s/step")["value"] == 7
    assert sucrose.json("cat", path, "s/pair")["value"] == "(1, 'x')"
    assert r"value: a\x1b[31m" in sucrose.lines("cat", path, "s/name")
    assert "near matches: 's/step'" in sucrose.error("cat", path, "s/stpe")
    assert "container of 4 values" in sucrose.error("cat", path, "s")


def test_cat_exports_exactly_what_is_there(sucrose: Sucrose, tmp_path: Path) -> None:
    weight = torch.arange(12.0).view(3, 4)
    half = torch.ones(3, dtype=torch.bfloat16)
    path = take(tmp_path / "a", {"s": {"w": weight.t(), "half": half, "pair": (1, 2)}})
    for suffix in ("npy", "pt", "safetensors"):
        sucrose.run("cat", path, "s/w", "--slice", "1:3", "--export", tmp_path / f"w.{suffix}")
    expected = weight.t()[1:3].contiguous()
    assert_same(torch.from_numpy(np.load(tmp_path / "w.npy")), expected)
    assert_same(torch.load(tmp_path / "w.pt"), expected)
    assert_same(load_file(tmp_path / "w.safetensors"), {"s/w": expected})
    assert (tmp_path / "w.pt").stat().st_size < 2000
    sucrose.run("cat", path, "s/pair", "--export", tmp_path / "pair.pt")
    assert torch.load(tmp_path / "pair.pt") == (1, 2)
    assert "bfloat16" in sucrose.error("cat", path, "s/half", "--export", tmp_path / "half.npy")
    assert "--overwrite" in sucrose.error("cat", path, "s/half", "--export", tmp_path / "w.pt")
    sucrose.run("cat", path, "s/half", "--export", tmp_path / "w.pt", "--overwrite")
    assert_same(torch.load(tmp_path / "w.pt"), half)


@pytest.mark.parametrize("index", ["5", "0,0,0"])
def test_a_slice_that_does_not_fit_is_refused(sucrose: Sucrose, tmp_path: Path, index: str) -> None:
    path = take(tmp_path / "a", {"s": {"w": torch.ones(3, 4), "n": 3}})
    assert "does not fit" in sucrose.error("cat", path, "s/w", "--slice", index)
    assert "is of the type int" in sucrose.error("cat", path, "s/n", "--slice", index)


@pytest.mark.parametrize("index", ["0:2:-1", "__import__('os')", "...,...", "", "0:2;1", "a"])
def test_a_slice_that_is_none_is_wrong_usage(sucrose: Sucrose, tmp_path: Path, index: str) -> None:
    path = take(tmp_path / "a", {"s": {"w": torch.ones(3, 4)}})
    done = sucrose.run("cat", path, "s/w", "--slice", index, status=2)
    assert "--slice" in done.stderr
    assert done.stdout == ""


def test_a_file_of_another_kind_to_export_to_is_wrong_usage(sucrose: Sucrose, tmp_path: Path) -> None:
    path = take(tmp_path / "a", {"s": {"w": torch.ones(3)}})
    done = sucrose.run("cat", path, "s/w", "--export", tmp_path / "w.txt", status=2)
    assert "--export" in done.stderr
    assert ".npy" in done.stderr
    assert not (tmp_path / "w.txt").exists()


def test_sets_and_none_are_shown_with_what_is_in_them(sucrose: Sucrose, tmp_path: Path) -> None:
    before = {"s": {"names": {"b", "a"}, "empty": set(), "nothing": None, "gone": None, "same": {1}}}
    after = {"s": {"names": {"b", "c"}, "empty": {1}, "nothing": {2}, "new": frozenset({3}), "same": {1}}}
    a, b = take(tmp_path / "a", before), take(tmp_path / "b", after)
    content = sucrose.json("diff", a, b, "--allow-pickle", status=DIFFERENT)
    found = {
        change["path"]: [side and side["value"] for side in (change["before"], change["after"])]
        for change in content["changes"]
    }
    assert found == {
        "s/names": ["{'a', 'b'}", "{'b', 'c'}"],
        "s/empty": ["set()", "{1}"],
        "s/nothing": ["None", "{2}"],
        "s/gone": ["None", None],
        "s/new": [None, "frozenset({3})"],
    }
    assert sucrose.json("cat", a, "s/names", "--allow-pickle")["value"] == "{'a', 'b'}"
    assert "value: None" in sucrose.lines("cat", a, "s/nothing", "--allow-pickle")


def test_what_one_side_alone_has_is_told_by_its_type_where_showing_it_could_run_code(
    sucrose: Sucrose, tmp_path: Path
) -> None:
    a, b = take(tmp_path / "a", {"s": {"n": 1}}), take(tmp_path / "b", {"s": {"n": 1, "steps": range(3)}})
    [change] = sucrose.json("diff", a, b, status=DIFFERENT)["changes"]
    assert change["after"]["value"] == "builtins.range"


def test_flatten_makes_a_snapshot_whole(sucrose: Sucrose, tmp_path: Path) -> None:
    state = StateDict(frozen=torch.randn(1 << 20), trained=torch.zeros(8))
    base = Snapshot.take(tmp_path / "step_1", {"state": state})
    state["trained"] += 1
    Snapshot.take(tmp_path / "step_2", {"state": state}, base=base)
    assert sucrose.json("flatten", tmp_path / "step_2", tmp_path / "whole")["copied_from"] == [str(tmp_path / "step_1")]
    assert "no longer needs 1 snapshot" in sucrose.lines("flatten", tmp_path / "step_2")[0]
    (tmp_path / "step_1").rename(tmp_path / "elsewhere")
    for name in ("step_2", "whole"):
        sucrose.run("verify", tmp_path / name)
        assert_same(Snapshot(tmp_path / name).get_state_dict_for_key("state"), dict(state))


def test_env_tells_what_matters_and_no_secret(
    sucrose: Sucrose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUCROSE_SIGNING_KEY", "correct horse battery staple")
    monkeypatch.setenv("LATTICE_REMOTE", "redis://me:hunter2@host:6379/0")
    monkeypatch.setenv("SUCROSE_WORKERS", "3")
    done = sucrose.run("env", tmp_path, "--json")
    content = json.loads(done.stdout)
    assert content["versions"]["torch"] == torch.__version__
    assert content["engine"]["io_backend"] in ("io_uring", "threads")
    assert content["options"]["workers"] == {
        "value": 3, "variable": "SUCROSE_WORKERS", "is_set": True, "is_default": False,
    }  # fmt: skip
    assert content["environment"]["SUCROSE_SIGNING_KEY"] == "set"
    assert content["storage"]["path"] == str(tmp_path)
    assert content["storage"]["free_nbytes"] > 0
    text = done.stdout + sucrose.run("env", tmp_path).stdout
    assert "horse" not in text
    assert "hunter2" not in text


def test_each_element_is_held_to_either_tolerance(sucrose: Sucrose, tmp_path: Path) -> None:
    """One is near by its distance, the other one by its part: together they are neither."""
    torch.save({"w": torch.tensor([1e-6, 1000.0])}, tmp_path / "a.pt")
    torch.save({"w": torch.tensor([2e-6, 1000.5])}, tmp_path / "b.pt")
    both = [tmp_path / "a.pt", tmp_path / "b.pt"]
    sucrose.run("diff", *both, "--atol", "1e-5", "--rtol", "1e-3", status=SAME)
    sucrose.run("diff", *both, "--atol", "1e-5", status=DIFFERENT)
    sucrose.run("diff", *both, "--rtol", "1e-3", status=DIFFERENT)


def test_whole_numbers_that_doubles_cannot_tell_apart_are_apart(sucrose: Sucrose, tmp_path: Path) -> None:
    for name, value in (("a.pt", 1 << 60), ("b.pt", (1 << 60) + 2)):
        torch.save({"w": torch.tensor([value])}, tmp_path / name)
    sucrose.run("diff", tmp_path / "a.pt", tmp_path / "b.pt", "--atol", "1", status=DIFFERENT)
    sucrose.run("diff", tmp_path / "a.pt", tmp_path / "b.pt", "--atol", "2", status=SAME)


def test_a_rank_that_is_not_there_is_trouble(sucrose: Sucrose, tmp_path: Path) -> None:
    path = take(tmp_path / "step_1", nested_state())
    assert "no rank 3" in sucrose.error("diff", path, path, "--rank", "3", status=TROUBLE)


def test_numbers_whose_squares_are_too_large_have_a_mean(sucrose: Sucrose, tmp_path: Path) -> None:
    torch.save({"w": torch.tensor([1e200, 3e200], dtype=torch.float64)}, tmp_path / "a.pt")
    content = sucrose.json("cat", tmp_path / "a.pt", "w")
    assert content["mean"] == 2e200
    assert content["std"] == "inf"


def test_a_traceback_moves_no_cursor(sucrose: Sucrose, tmp_path: Path) -> None:
    file = tmp_path / "\x1b[31mred"
    file.write_bytes(b"of no kind")
    done = sucrose.run("--debug", "show", file, status=1)
    assert "Traceback" in done.stderr
    assert "\\x1b[31mred is neither" in done.stderr

"""Restoring writes into the program's own tensors, whatever they look like."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same, raw_bytes

from sucrose import Snapshot, StateDict
from sucrose.errors import StateMismatchError
from torchsnapshot import knobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (6, 4, 5)
SAVED = torch.randn(SHAPE)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return Snapshot.take(tmp_path / "s", {"state": StateDict(v=SAVED)})


def restored(snapshot: Snapshot, target: torch.Tensor, **options: Any) -> torch.Tensor:
    state = StateDict(v=target)
    Snapshot(snapshot.path).restore({"state": state}, **options)
    return state["v"]  # type: ignore[no-any-return]


TARGETS: dict[str, Callable[[], torch.Tensor]] = {
    "plain": lambda: torch.zeros(SHAPE),
    "parameter": lambda: torch.nn.Parameter(torch.zeros(SHAPE)),
    "result of a computation": lambda: torch.zeros(SHAPE, requires_grad=True) + 1,
    "transposed": lambda: torch.zeros(SHAPE[::-1]).permute(2, 1, 0),
    "with gaps": lambda: torch.zeros(12, 8, 5)[::2, 1::2],
    "last dimension with gaps": lambda: torch.zeros(6, 4, 10)[..., ::2],
    "at an odd address": lambda: torch.zeros(121)[1:].view(SHAPE),
    "negative view": lambda: torch.zeros(SHAPE, dtype=torch.complex64).conj().imag,
}


@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_of_any_layout_is_filled_in_place(each_engine: str, snapshot: Snapshot, kind: str) -> None:
    target = TARGETS[kind]()
    address = target.data_ptr()
    assert restored(snapshot, target) is target
    assert target.data_ptr() == address
    assert raw_bytes(target) == raw_bytes(SAVED)


def test_memory_between_the_elements_of_a_target_is_left_alone(each_engine: str, snapshot: Snapshot) -> None:
    whole = torch.full((12, 8, 5), 7.0)
    restored(snapshot, whole[::2, 1::2])
    assert raw_bytes(whole[::2, 1::2]) == raw_bytes(SAVED)
    assert (whole[1::2] == 7).all()
    assert (whole[:, ::2] == 7).all()


def test_a_conjugate_target_shows_what_was_saved(tmp_path: Path) -> None:
    values = torch.tensor([1 + 2j, -3j])
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(v=values)})
    target = torch.zeros(2, dtype=torch.complex64).conj()
    assert_same(restored(snapshot, target).resolve_conj(), values)


def test_a_target_whose_elements_share_memory_is_replaced_like_any_value(snapshot: Snapshot) -> None:
    target = torch.zeros(1, 4, 5).expand(SHAPE)
    got = restored(snapshot, target)
    assert_same(got, SAVED)
    assert not target.any()


@pytest.mark.parametrize(
    ("saved", "wanted"),
    [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32), (torch.int64, torch.float64)],
    ids=str,
)
def test_cast_converts_as_torch_does(tmp_path: Path, saved: torch.dtype, wanted: torch.dtype) -> None:
    values = torch.linspace(-300, 300, 1001).to(saved)
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(v=values)})
    target = torch.zeros(1001, dtype=wanted)
    assert restored(snapshot, target, cast=True) is target
    assert_same(target, values.to(wanted))


def test_a_module_of_another_dtype_needs_cast(tmp_path: Path) -> None:
    model = torch.nn.Linear(8, 8)
    snapshot = Snapshot.take(tmp_path / "s", {"model": model})
    half = torch.nn.Linear(8, 8).bfloat16()
    with pytest.raises(StateMismatchError, match="cast=True"):
        snapshot.restore({"model": half})
    snapshot.restore({"model": half}, cast=True)
    assert_same(half.weight.data, model.weight.data.bfloat16())


def test_nested_containers_are_matched_by_their_keys(tmp_path: Path) -> None:
    saved = {"a": [torch.ones(2), {"b": torch.full((3,), 2.0)}], 7: OrderedDict(c=torch.full((1,), 3.0)), "n": 1}
    Snapshot.take(tmp_path / "s", {"state": StateDict(v=saved)})
    targets = {7: OrderedDict(c=torch.zeros(1)), "a": [torch.zeros(2), {"b": torch.zeros(3)}]}
    tensors = [targets[7]["c"], targets["a"][0], targets["a"][1]["b"]]
    state = StateDict(v=targets, untouched="stays")
    Snapshot(tmp_path / "s").restore({"state": state})
    assert_same(state["v"], saved)
    assert state["untouched"] == "stays"
    got = [state["v"][7]["c"], state["v"]["a"][0], state["v"]["a"][1]["b"]]
    assert all(a is b for a, b in zip(got, tensors, strict=True))
    assert tensors[2].sum() == 6


def test_what_the_target_lacks_is_made_new(tmp_path: Path) -> None:
    saved = {"list": [torch.ones(2)] * 3, "tensor where a number was": torch.ones(1), "number where a tensor was": 5}
    Snapshot.take(tmp_path / "s", {"state": StateDict(v=saved)})
    targets = {"list": [torch.zeros(2)], "tensor where a number was": 5, "number where a tensor was": torch.zeros(1)}
    state = StateDict(v=targets)
    Snapshot(tmp_path / "s").restore({"state": state})
    assert_same(state["v"], saved)


def test_a_tied_target_stays_tied(each_engine: str, tmp_path: Path) -> None:
    values = torch.randn(1000)
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(a=values, b=values.view(10, 100))})
    target = torch.zeros(1000)
    state = StateDict(a=target, b=target.view(10, 100))
    snapshot.restore({"state": state})
    assert_same(target, values)
    assert state["b"].data_ptr() == target.data_ptr()


def test_tensors_that_were_tied_restore_into_separate_ones(each_engine: str, tmp_path: Path) -> None:
    values = torch.randn(3_000_000)
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(a=values, b=values, c=values.view(torch.int32))})
    state = StateDict(a=torch.zeros(3_000_000), b=torch.zeros(3_000_000), c=torch.zeros(3_000_000, dtype=torch.int32))
    snapshot.restore({"state": state})
    assert_same(state.data, {"a": values, "b": values, "c": values.view(torch.int32)})
    assert state["a"].data_ptr() != state["b"].data_ptr()


def test_separate_tensors_restored_into_tied_ones_are_not_mixed(each_engine: str, tmp_path: Path) -> None:
    saved = StateDict(a=torch.full((3_000_000,), 1.0), between=torch.ones(5), b=torch.full((3_000_000,), 2.0))
    snapshot = Snapshot.take(tmp_path / "s", {"state": saved})
    target = torch.zeros(3_000_000)
    snapshot.restore({"state": StateDict(a=target, b=target)})
    assert_same(target, saved["b"])  # the last one, as load_state_dict would have it


def test_part_of_a_snapshot_can_be_restored(tmp_path: Path) -> None:
    snapshot = Snapshot.take(tmp_path / "s", {"a": StateDict(v=torch.ones(2)), "b": StateDict(v=torch.ones(2))})
    state = StateDict(v=torch.zeros(2))
    report = snapshot.restore({"b": state})
    assert report.statefuls == ("b",)
    assert (report.tensors, report.nbytes) == (1, 8)
    assert_same(state["v"], torch.ones(2))


@pytest.mark.parametrize("max_file_nbytes", [0, 1000, 10_000])
def test_a_snapshot_may_be_spread_over_many_files(
    each_engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_file_nbytes: int
) -> None:
    saved = {f"t{i}": torch.randn(i) for i in range(100)}
    monkeypatch.setenv("SUCROSE_MAX_FILE_NBYTES", str(max_file_nbytes))
    Snapshot.take(tmp_path / "s", {"state": StateDict(**saved)})
    monkeypatch.delenv("SUCROSE_MAX_FILE_NBYTES")
    assert len(list((tmp_path / "s" / "data").iterdir())) >= 2
    snapshot = Snapshot(tmp_path / "s")
    assert_same(snapshot.get_state_dict_for_key("state"), saved)
    state = StateDict(**{name: torch.zeros_like(value) for name, value in saved.items()})
    snapshot.restore({"state": state})
    assert_same(state.data, saved)
    assert snapshot.verify()


@pytest.mark.parametrize("nbytes", [1, 100, 4096])
def test_chunked_tensors_come_back_whole(each_engine: str, tmp_path: Path, nbytes: int) -> None:
    saved = {"a": torch.randn(33, 7), "b": torch.arange(1000, dtype=torch.int16), "c": torch.tensor(5.0)}
    with knobs.override_max_chunk_size_bytes(nbytes):
        Snapshot.take(tmp_path / "s", {"state": StateDict(**saved)})
    snapshot = Snapshot(tmp_path / "s")
    chunked = snapshot.get_manifest()["0/state/a"]
    assert chunked.type == "ChunkedTensor" or nbytes > saved["a"].nbytes
    assert_same(snapshot.get_state_dict_for_key("state"), saved)
    targets = {"a": torch.zeros(7, 33).t(), "b": torch.zeros(1000, dtype=torch.int32), "c": torch.tensor(0.0)}
    snapshot.restore({"state": StateDict(**targets)}, cast=True)
    assert raw_bytes(targets["a"]) == raw_bytes(saved["a"])
    assert_same(targets["b"], saved["b"].int())


@pytest.mark.parametrize("knob", ["slab", "batching"])
def test_other_knobs_change_files_and_not_values(tmp_path: Path, knob: str) -> None:
    saved = {"a": torch.randn(100), "b": torch.randn(100)}
    slab = knobs.override_slab_size_threshold_bytes(500)
    with slab if knob == "slab" else knobs.override_is_batching_disabled(disabled=True):
        snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(**saved)})
    assert len(list((tmp_path / "s" / "data").iterdir())) == 2
    assert_same(snapshot.get_state_dict_for_key("state"), saved)


def test_sparse_targets_and_lazy_parameters_are_replaced(tmp_path: Path) -> None:
    sparse = torch.eye(3).to_sparse()
    snapshot = Snapshot.take(tmp_path / "s", {"state": StateDict(v=sparse), "model": torch.nn.Linear(3, 2)})
    state = StateDict(v=torch.zeros(3, 3).to_sparse())
    lazy = torch.nn.LazyLinear(2)
    snapshot.restore({"state": state, "model": lazy})
    assert_same(state["v"], sparse)
    assert lazy.weight.shape == (2, 3)


def test_a_parameter_whose_memory_was_freed_is_a_mismatch_and_nothing_is_changed(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    Snapshot.take(tmp_path / "s", {"model": model})
    torch.nn.init.zeros_(model.bias)
    model.weight.untyped_storage().resize_(0)
    with pytest.raises(StateMismatchError, match=r"0/model/weight.*no memory"):
        Snapshot(tmp_path / "s").restore({"model": model})
    assert model.bias.eq(0).all()

"""Every value comes back bit for bit, whatever its type, layout and name."""

from __future__ import annotations

import json
import math
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same, raw_bytes

from sucrose import Snapshot, StateDict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DTYPES = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
QUANTIZED = [dtype for dtype in DTYPES if str(dtype).startswith(("torch.qint", "torch.quint"))]
DENSE = [dtype for dtype in DTYPES if dtype not in QUANTIZED]
complex_half = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")


def any_bits(dtype: torch.dtype, *shape: int, seed: int = 0) -> torch.Tensor:
    """A tensor of random bits: NaNs of all kinds, denormals and infinities are among them."""
    generator = torch.Generator().manual_seed(seed)
    numel = math.prod(shape)
    if dtype is torch.bool:
        return torch.randint(2, (numel,), generator=generator).bool().view(shape)
    bits = torch.randint(256, (numel * dtype.itemsize,), dtype=torch.uint8, generator=generator)
    return bits.view(dtype).view(shape)


def taken(path: Path, **values: Any) -> dict[str, Any]:
    Snapshot.take(path, {"state": StateDict(**values)})
    return Snapshot(path).get_state_dict_for_key("state")


@complex_half
@pytest.mark.parametrize("dtype", DENSE, ids=str)
def test_tensors_of_every_dtype_come_back(each_engine: str, tmp_path: Path, dtype: torch.dtype) -> None:
    whole = any_bits(dtype, 6, 4, 5)
    values = {
        "plain": whole,
        "scalar": whole[0, 0, 0],
        "empty": whole[:, :0],
        "transposed": whole.transpose(0, 2),
        "every other": whole[::2, 1::2],
        "diagonal": whole[0].diagonal(),
        "expanded": whole[:1].expand(3, 4, 5),
        "at an odd address": whole.view(-1)[1:],
    }
    got = taken(tmp_path / "s", **values)
    for name, value in values.items():
        assert got[name].dtype == dtype
        assert got[name].shape == value.shape
        assert raw_bytes(got[name]) == raw_bytes(value), name

    target = StateDict(**{name: torch.empty(value.shape, dtype=dtype) for name, value in values.items()})
    Snapshot(tmp_path / "s").restore({"state": target})
    for name, value in values.items():
        assert raw_bytes(target[name]) == raw_bytes(value), name


def quantized(dtype: torch.dtype) -> list[torch.Tensor]:
    values, scales, zeros = torch.randn(4, 8), torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.tensor([0, 1, 2, 3])
    if dtype in (torch.quint4x2, torch.quint2x4):
        return [torch.quantize_per_channel(values, scales, zeros.float(), 0, dtype)]
    by_tensor = torch.quantize_per_tensor(values, 0.1, 2, dtype)
    return [by_tensor, by_tensor[1:3], torch.quantize_per_channel(values, scales, zeros, 0, dtype)]


@pytest.mark.parametrize("dtype", QUANTIZED, ids=str)
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per_tensor")
def test_quantized_tensors_come_back_with_their_scales(tmp_path: Path, dtype: torch.dtype) -> None:
    expected = quantized(dtype)
    assert_same(taken(tmp_path / "s", v=expected)["v"], expected)


@complex_half
@pytest.mark.parametrize("dtype", [torch.complex32, torch.complex64, torch.complex128], ids=str)
def test_conjugate_and_negative_views_come_back_as_the_values_they_show(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.tensor([[1 + 2j, -3 - 0.5j], [0j, 7j]], dtype=dtype)
    conjugate, negative = values.conj(), values.conj().imag
    assert conjugate.is_conj()
    assert negative.is_neg()
    got = taken(tmp_path / "s", conjugate=conjugate, negative=negative)
    assert_same(got["conjugate"], conjugate.resolve_conj())
    assert_same(got["negative"], negative.resolve_neg().contiguous())


def test_channels_last_tensors_come_back(tmp_path: Path) -> None:
    images = torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last)
    volumes = torch.randn(2, 3, 2, 5, 7).to(memory_format=torch.channels_last_3d)
    got = taken(tmp_path / "s", images=images, volumes=volumes)
    assert torch.equal(got["images"], images)
    assert torch.equal(got["volumes"], volumes)


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "coo": torch.Tensor.to_sparse,
    "coo, not coalesced": lambda dense: torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (2, 2)),
    "csr": torch.Tensor.to_sparse_csr,
    "csc": torch.Tensor.to_sparse_csc,
    "bsr": lambda dense: dense.to_sparse_bsr((2, 2)),
    "nested": lambda dense: torch.nested.nested_tensor([dense, dense[:1]]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore:Sparse", "ignore:The PyTorch API of nested tensors", "ignore:.*Sparse invariant")
def test_sparse_and_nested_tensors_come_back(tmp_path: Path, layout: str) -> None:
    expected = LAYOUTS[layout](torch.eye(4) * math.nan + torch.eye(4))
    assert_same(taken(tmp_path / "s", v=expected)["v"], expected)


class Tagged(torch.Tensor):
    pass


def test_subclasses_and_parameters_come_back_as_plain_tensors(tmp_path: Path) -> None:
    values = torch.arange(3.0)
    got = taken(tmp_path / "s", parameter=torch.nn.Parameter(values), tagged=values.clone().as_subclass(Tagged))
    assert_same(got, {"parameter": values, "tagged": values})


NUMBERS = [0, -1, 2**63, -(2**64), 2**4000, True, False, 0.0, -0.0, 1e-320, math.inf, -math.inf, math.pi]


@pytest.mark.parametrize("number", [*NUMBERS, math.nan, struct.unpack("<d", b"\1\2\3\4\5\6\xf7\xff")[0]])
def test_numbers_come_back_to_the_last_bit(tmp_path: Path, number: float) -> None:
    assert_same(taken(tmp_path / "s", v=number)["v"], number)


STRINGS = ["", "ä中😀", "\0", "\r\n\t\"\\'", "\ud800 alone", " ", "null", "1", "\u2028", b"", bytes(range(256))]


@pytest.mark.parametrize("text", STRINGS, ids=ascii)
def test_strings_and_bytes_come_back(tmp_path: Path, text: str | bytes) -> None:
    assert_same(taken(tmp_path / "s", v=text)["v"], text)


OTHER_LEAVES = [None, (), (1, (2.5, "x")), {1, 2}, 1 + 2j, torch.Size([2, 3]), torch.float16, torch.device("cpu")]


@pytest.mark.parametrize("leaf", OTHER_LEAVES, ids=str)
def test_other_plain_leaves_come_back_without_allowing_pickles(tmp_path: Path, leaf: object) -> None:
    assert_same(taken(tmp_path / "s", v=leaf)["v"], leaf)


def test_containers_come_back_with_their_types_and_order(tmp_path: Path) -> None:
    value = {
        "z": [[], {}, OrderedDict(), [torch.ones(2), [torch.zeros(1), {"deep": (torch.ones(1),)}]]],
        "a": OrderedDict([("2", 1), ("1", OrderedDict(b=torch.arange(3)))]),
        7: {-1: "minus one", 0: "zero", 2**80: "large"},
    }
    assert_same(taken(tmp_path / "s", v=value)["v"], value)


KEYS: list[list[Any]] = [
    ["", ".", "..", "/", "//", "a/b", "a%2Fb", "%", "%25", "a", "a/"],
    ["\0", "\n", "ä", "中/文", "😀", "-", "~", "*", "CON", "a" * 300],
    ["\ud800"],
    [0, 1, -1, "a"],
    [1, "1"],
    [(1, 2), "t"],
    [None, True, 1.5, b"b"],
    [frozenset({1}), "f"],
]


@pytest.mark.parametrize("keys", KEYS, ids=ascii)
@pytest.mark.parametrize("leaf", [torch.arange(3.0), (1, 2), 5], ids=["tensor", "object", "primitive"])
def test_keys_of_all_kinds_come_back(tmp_path: Path, keys: list[Any], leaf: object) -> None:
    value = dict.fromkeys(keys, leaf)
    if any(type(key) in (bool, frozenset) for key in keys):
        Snapshot.take(tmp_path / "s", {"state": StateDict(v=value)})
        got = Snapshot(tmp_path / "s").get_state_dict_for_key("state", allow_pickle=True)["v"]
    else:
        got = taken(tmp_path / "s", v=value)["v"]
    assert_same(got, value)


@pytest.mark.parametrize("name", ["", "a/b", "..", "%", "\0", "ä", "0"], ids=ascii)
def test_statefuls_may_have_any_name(tmp_path: Path, name: str) -> None:
    Snapshot.take(tmp_path / "s", {name: StateDict(t=torch.ones(2), o=(1,)), "other": StateDict(n=1)})
    target = StateDict(t=torch.zeros(2), o=None)
    Snapshot(tmp_path / "s").restore({name: target})
    assert_same(target.data, {"t": torch.ones(2), "o": (1,)})


def test_nesting_of_long_names_is_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    value: Any = (1, 2)
    for _ in range(60):
        value = {"k" * 100: value}
    assert_same(taken(tmp_path / "s", v=value)["v"], value)


def test_tied_tensors_are_stored_once_and_come_back_tied(tmp_path: Path) -> None:
    whole = torch.randn(1000, 64)
    values = {
        "a": whole,
        "b": whole,
        "alias": whole.view(64, 1000),
        "bits": whole.view(torch.int32),
        "halves": whole.view(torch.float16).view(2, -1),
        "detached": torch.nn.Parameter(whole),
    }
    got = taken(tmp_path / "s", **values)
    assert sum(file.stat().st_size for file in (tmp_path / "s" / "data").iterdir()) < 1.1 * whole.nbytes
    for name, value in values.items():
        assert got[name].dtype == value.dtype
        assert got[name].shape == value.shape
        assert raw_bytes(got[name]) == raw_bytes(value)
    got["b"].zero_()
    assert all(not tensor.view(-1).any() for tensor in got.values())


def test_equal_tensors_that_are_not_tied_stay_apart(tmp_path: Path) -> None:
    got = taken(tmp_path / "s", a=torch.ones(4), b=torch.ones(4))
    got["a"].zero_()
    assert got["b"].sum() == 4


def test_a_tensor_and_its_transpose_are_told_apart(tmp_path: Path) -> None:
    square = torch.arange(9.0).view(3, 3)
    got = taken(tmp_path / "s", a=square, b=square.t(), c=square[::2], d=square.view(-1)[:6].view(2, 3))
    assert_same(got, {"a": square, "b": square.t(), "c": square[::2], "d": square[:2]})


def test_metadata_of_module_state_dicts_comes_back(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    Snapshot.take(tmp_path / "s", {"model": model})
    got = Snapshot(tmp_path / "s").get_state_dict_for_key("model")
    assert got._metadata == model.state_dict()._metadata
    assert got._metadata["1"]["version"] == 2


def test_the_snapshot_is_the_state_at_the_time_of_the_take(tmp_path: Path) -> None:
    values = torch.ones(1000)
    Snapshot.take(tmp_path / "s", {"state": StateDict(v=values)})
    values.zero_()
    assert_same(Snapshot(tmp_path / "s").get_state_dict_for_key("state")["v"], torch.ones(1000))


def test_the_metadata_is_json_with_nothing_but_the_known_fields(tmp_path: Path) -> None:
    taken(tmp_path / "s", v=torch.ones(2), n=1)
    assert set(json.loads((tmp_path / "s" / ".snapshot_metadata").read_text())) == {"version", "world_size", "manifest"}


def test_a_prepare_function_sees_every_tensor_and_what_it_returns_is_stored(tmp_path: Path) -> None:
    seen = []

    def halve(path: str, tensor: torch.Tensor, tracing: bool) -> torch.Tensor:
        seen.append((path, tracing))
        return tensor.half()

    state = {"state": StateDict(a=torch.tensor([1.5]), b=[torch.tensor([2.5])])}
    snapshot = Snapshot.take(tmp_path / "s", state, _custom_tensor_prepare_func=halve)
    assert seen == [("state/a", False), ("state/b/0", False)]
    got = snapshot.get_state_dict_for_key("state")
    assert_same(got, {"a": torch.tensor([1.5]).half(), "b": [torch.tensor([2.5]).half()]})


@pytest.mark.parametrize("path", ["s", "deep/er/s", "fs://{}/s", "file://{}/s", "s/", "caf\udce9", "n" * 250])
def test_paths_may_be_written_in_many_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    url = path.format(tmp_path)
    snapshot = Snapshot.take(url, {"state": StateDict(v=torch.ones(2))})
    assert snapshot.path == url
    assert_same(Snapshot(url).get_state_dict_for_key("state")["v"], torch.ones(2))

"""`sucrose.save` and `sucrose.load`: files that torch reads too, complete or not there at all."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import shutil
import stat
import subprocess
import sys
import threading
import warnings
import zipfile
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sucrose
from sucrose.engine import get_engine
from sucrose.errors import CorruptionError, UnsafeObjectError, UnsupportedError
from sucrose.options import override_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WEIGHT = torch.arange(12.0).reshape(3, 4)

READERS: dict[str, Callable[..., Any]] = {
    "sucrose": sucrose.load,
    "sucrose, unchecked": lambda path: sucrose.load(path, verify=False),
    "sucrose, any pickle": lambda path: sucrose.load(path, weights_only=False),
    "torch": lambda path: torch.load(path, weights_only=True),
    "torch, any pickle": lambda path: torch.load(path, weights_only=False),
    "torch, mapped": lambda path: torch.load(path, weights_only=True, mmap=True),
}
WRITERS: dict[str, Callable[..., None]] = {"sucrose": sucrose.save, "torch": torch.save}


@pytest.fixture(params=["reference", "native"])
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    get_engine(request.param)
    with override_options(engine=request.param):
        yield request.param


def assert_same(found: Any, expected: Any) -> None:
    """Equal, and of the same types, all the way down."""
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert (found.dtype, found.shape, found.layout) == (expected.dtype, expected.shape, expected.layout)
        assert (found.requires_grad, found.is_conj()) == (expected.requires_grad, expected.is_conj())
        if expected.is_quantized:
            assert found.qscheme() == expected.qscheme()
            found, expected = found.dequantize(), expected.dequantize()
        if expected.layout is not torch.strided:
            found, expected = found.to_dense(), expected.to_dense()
        assert found.stride() == expected.stride()
        bits = [t.detach().resolve_conj().resolve_neg().contiguous().reshape(-1) for t in (found, expected)]
        assert torch.equal(bits[0].view(torch.uint8), bits[1].view(torch.uint8))
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for left, right in zip(found, expected, strict=True):
            assert_same(left, right)
    else:
        assert found == expected


DTYPES = sorted({d for d in vars(torch).values() if isinstance(d, torch.dtype)}, key=str)
BITWISE = [d for d in DTYPES if not any(word in str(d) for word in ("qint", "quint", "bits", "int1", "int2", "int4"))]
BITWISE = [d for d in BITWISE if str(d)[-5:-1] not in (".int", "uint")] + [torch.int8, torch.uint8]


def make_objects() -> dict[str, Any]:
    return {
        "nested containers": {"a": [1, 2.5, (True, None, "é")], "b": {1: "one", (1, 2): b"bytes"}, "c": []},
        "large integers": [0, 255, 256, 65535, 65536, -1, 2**31, 2**63, -(2**80), 2**1000],
        "floats": [0.0, -0.0, float("inf"), 1e-308],
        "long text": {"x" * 300: "y" * 70_000},
        "sets": {"s": {1, 2}},
        "counter": Counter("abca"),
        "one tensor": WEIGHT,
        "0-d and empty tensors": [torch.tensor(3), torch.empty(0), torch.empty(0, 3), torch.zeros(2, 0, 5)],
        "requires_grad": [WEIGHT.clone().requires_grad_(), torch.ones(3, requires_grad=True)],
        "parameters": {
            "p": torch.nn.Parameter(WEIGHT.clone()),
            "q": torch.nn.Parameter(torch.ones(2), requires_grad=False),
        },
        "strided views": [WEIGHT.t(), WEIGHT[::2, 1:], WEIGHT[1:2].expand(5, 4), WEIGHT.as_strided((2, 2), (1, 1), 3)],
        "conjugate and negative views": [torch.ones(3, dtype=torch.complex64).conj(), (1j * torch.ones(2)).conj().imag],
        "sparse": [torch.eye(4).to_sparse(), torch.eye(4).to_sparse_csr(), torch.eye(4).to_sparse_csc()],
        "quantized": [
            torch.quantize_per_tensor(WEIGHT, 0.1, 3, torch.qint8),
            torch.quantize_per_channel(WEIGHT, torch.ones(3), torch.zeros(3), 0, torch.quint8),
        ],
        "sizes, devices and dtypes": [WEIGHT.shape, torch.device("cpu"), torch.float16, torch.uint8],
        "module state": torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).state_dict(),
        "meta tensor": torch.empty(3, 4, device="meta"),
        "every dtype": {str(d): torch.arange(64, dtype=torch.uint8).view(d) for d in BITWISE if d != torch.bool},
        "booleans": torch.arange(5) > 2,
    }


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls sparse layouts beta and quantized tensors deprecated
    OBJECTS = make_objects()


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.filterwarnings("ignore")
def test_objects_come_back_the_same_whoever_reads_them(tmp_path: Path, name: str, read: Callable[..., Any]) -> None:
    if name == "meta tensor":
        sucrose.save(OBJECTS[name], tmp_path / "f.pt")
        found = read(tmp_path / "f.pt")
        assert (found.is_meta, found.shape) == (True, (3, 4))
        return
    sucrose.save(OBJECTS[name], tmp_path / "f.pt")
    assert_same(read(tmp_path / "f.pt"), OBJECTS[name])


@pytest.mark.parametrize("name", [name for name in OBJECTS if name != "meta tensor"])
@pytest.mark.filterwarnings("ignore")
def test_what_torch_saved_is_loaded(tmp_path: Path, name: str, engine: str) -> None:
    torch.save(OBJECTS[name], tmp_path / "f.pt")
    assert_same(sucrose.load(tmp_path / "f.pt"), OBJECTS[name])
    assert_same(sucrose.load(tmp_path / "f.pt", weights_only=False), OBJECTS[name])


def test_a_state_dict_keeps_its_metadata(tmp_path: Path) -> None:
    state = torch.nn.BatchNorm1d(3).state_dict()
    sucrose.save(state, tmp_path / "f.pt")
    for read in READERS.values():
        assert read(tmp_path / "f.pt")._metadata == state._metadata


def test_a_training_run_continues_from_the_file(tmp_path: Path, engine: str) -> None:
    model = torch.nn.Linear(8, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    sucrose.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, tmp_path / "f.pt")
    other = torch.nn.Linear(8, 3)
    state = sucrose.load(tmp_path / "f.pt")
    other.load_state_dict(state["model"])
    resumed = torch.optim.AdamW(other.parameters())
    resumed.load_state_dict(state["optimizer"])
    for network, stepper in ((model, optimizer), (other, resumed)):
        network.zero_grad()
        network(torch.full((2, 8), 2.0)).sum().backward()
        stepper.step()
    assert torch.equal(model.weight, other.weight)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_tensors_that_shared_memory_share_it_again(tmp_path: Path, write, read) -> None:
    base = torch.zeros(1000)
    write(
        {"whole": base, "part": base[10:20], "reshaped": base.view(10, 100), "other": torch.zeros(1000)}, tmp_path / "f"
    )
    assert (tmp_path / "f").stat().st_size < 3 * base.nbytes
    found = read(tmp_path / "f")
    found["whole"][15] = 7
    assert found["part"][5] == 7
    assert found["reshaped"][0, 15] == 7
    assert found["other"].sum() == 0


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_views_of_other_dtypes_share_memory_again(tmp_path: Path, read) -> None:
    base = torch.arange(4.0)
    as_int, as_bytes, as_fp8 = base.view(torch.int32), base.view(torch.uint8), base.view(torch.float8_e5m2)
    state = [base, as_int, as_bytes[4:], as_fp8, torch.nn.Parameter(base.view(torch.bfloat16))]
    sucrose.save(state, tmp_path / "f.pt")
    found = read(tmp_path / "f.pt")
    assert_same(found, state)
    found[1][1] = 0
    assert found[0].tolist() == [0, 0, 2, 3]
    sucrose.save([as_fp8, base], tmp_path / "g.pt")
    assert_same(read(tmp_path / "g.pt"), [as_fp8, base])


class Tagged(torch.Tensor):
    """A subclass with an attribute, as users write them."""


@pytest.mark.parametrize("read", [sucrose.load, torch.load])
def test_subclasses_and_attributes_of_tensors_come_back(tmp_path: Path, read) -> None:
    tagged = WEIGHT.clone().as_subclass(Tagged)
    tagged.note = "mine"
    plain = torch.ones(2)
    plain.note = "also"
    sucrose.save([tagged, plain], tmp_path / "f.pt")
    with torch.serialization.safe_globals([Tagged]):
        found = read(tmp_path / "f.pt")
    assert type(found[0]) is Tagged
    assert torch.equal(found[0].as_subclass(torch.Tensor), WEIGHT)
    assert [tensor.note for tensor in found] == ["mine", "also"]


def test_storages_themselves_can_be_saved(tmp_path: Path) -> None:
    sucrose.save({"s": WEIGHT.untyped_storage()}, tmp_path / "f.pt")
    for read in (sucrose.load, torch.load):
        assert bytes(read(tmp_path / "f.pt")["s"].tolist()) == bytes(WEIGHT.untyped_storage().tolist())


def test_a_storage_saved_under_two_dtypes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"torch\.float32 and as torch\.uint8"):
        sucrose.save([WEIGHT, WEIGHT.untyped_storage()], tmp_path / "f.pt")
    assert list(tmp_path.iterdir()) == []


def test_ten_thousand_tensors_come_back(tmp_path: Path, engine: str) -> None:
    state = OrderedDict((f"layer.{index}.weight", torch.full((3,), float(index))) for index in range(10_000))
    sucrose.save(state, tmp_path / "f.pt")
    found = sucrose.load(tmp_path / "f.pt")
    assert list(found) == list(state)
    assert all(torch.equal(found[key], value) for key, value in state.items())


@pytest.mark.parametrize("nbytes", [1, 4096, (1 << 20) + 1, (9 << 20) + 5])
def test_storages_of_all_sizes_come_back(tmp_path: Path, engine: str, nbytes: int) -> None:
    state = [torch.randint(256, (nbytes,), dtype=torch.uint8), torch.ones(3), torch.zeros(nbytes, dtype=torch.bool)]
    sucrose.save(state, tmp_path / "f.pt")
    assert_same(sucrose.load(tmp_path / "f.pt"), state)
    assert_same(torch.load(tmp_path / "f.pt", mmap=True), state)


tensors = st.builds(
    lambda shape, dtype, transpose: (
        torch.arange(10_000).to(dtype)[: shape[0] * shape[1]].view(shape).permute(*transpose)
    ),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint16, torch.complex64]),
    st.permutations([0, 1]),
)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(min_size=1) | tensors
)
objects = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=objects)
def test_any_object_comes_back_through_every_pair(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    for writer, write in WRITERS.items():
        path = folder / writer
        write(value, path)
        for read in (sucrose.load, torch.load):
            assert_same(read(path), value)


def test_the_file_is_a_sound_zip_archive(tmp_path: Path, engine: str) -> None:
    sucrose.save({"a": WEIGHT, "b": torch.ones(1000)}, tmp_path / "f.pt")
    with zipfile.ZipFile(tmp_path / "f.pt") as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == sys.byteorder.encode()
        assert len(archive.read("archive/.data/serialization_id")) == 40
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tq", tmp_path / "f.pt"], check=True, capture_output=True)


def test_equal_states_give_equal_files_from_every_engine(tmp_path: Path) -> None:
    for name in ("reference", "native"):
        with override_options(engine=name):
            sucrose.save({"a": WEIGHT, "b": [torch.ones(70_000), 3]}, tmp_path / name)
    assert (tmp_path / "reference").read_bytes() == (tmp_path / "native").read_bytes()


# --- where tensors go


def test_map_location_takes_every_form_that_torch_takes(tmp_path: Path) -> None:
    for write in WRITERS.values():
        write({"w": WEIGHT, "p": torch.nn.Parameter(torch.ones(2))}, tmp_path / "f.pt")
        seen = []

        def place(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
            seen.append((location, storage.nbytes()))  # noqa: B023 - called at once
            return storage

        for location in (
            None,
            "cpu",
            torch.device("cpu"),
            {"cpu": "cpu"},
            {"cuda:0": "cpu"},
            {},
            place,
            lambda *_: None,
        ):
            found = sucrose.load(tmp_path / "f.pt", location)
            assert torch.equal(found["w"], WEIGHT)
            assert found["p"].requires_grad
        assert seen == [("cpu", 48), ("cpu", 8)]


@pytest.mark.parametrize("location", ["meta", torch.device("meta")])
def test_on_the_meta_device_shapes_come_back_without_data(tmp_path: Path, location) -> None:
    sucrose.save({"w": WEIGHT.t(), "v": torch.ones(7)}, tmp_path / "f.pt")
    found = sucrose.load(tmp_path / "f.pt", location)
    assert found["w"].is_meta
    assert (found["w"].shape, found["w"].stride()) == ((4, 3), (1, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tensors_on_the_gpu_come_back_there_or_elsewhere(tmp_path: Path, engine: str) -> None:
    weight = torch.arange(100_000.0, device="cuda")
    state = {"w": weight, "view": weight[5:], "parameter": torch.nn.Parameter(weight[:3].clone())}
    sucrose.save(state, tmp_path / "f.pt")
    for read in (sucrose.load, torch.load):
        found = read(tmp_path / "f.pt")
        assert found["w"].device == weight.device
        assert torch.equal(found["w"], weight)
        assert found["view"].data_ptr() == found["w"].data_ptr() + 20
        moved = read(tmp_path / "f.pt", map_location="cpu")
        assert moved["w"].device.type == "cpu"
        assert torch.equal(moved["w"], weight.cpu())
    torch.save(state, tmp_path / "t.pt")
    assert torch.equal(sucrose.load(tmp_path / "t.pt")["w"], weight)


def test_an_error_of_a_map_location_callable_is_raised_as_it_is(tmp_path: Path) -> None:
    sucrose.save(WEIGHT, tmp_path / "f.pt")

    def fail(_storage: object, _location: str) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        sucrose.load(tmp_path / "f.pt", fail)


# --- what a file may hold


class Custom:
    """Something that weights_only does not know."""

    def __init__(self) -> None:
        self.weight = WEIGHT


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_other_classes_need_weights_only_false_and_the_error_says_so(tmp_path: Path, write) -> None:
    write({"custom": Custom()}, tmp_path / "f.pt")
    with pytest.raises(UnsafeObjectError, match="weights_only=False") as raised:
        sucrose.load(tmp_path / "f.pt")
    assert raised.value.path == str(tmp_path / "f.pt")
    assert "Custom" in str(raised.value)
    assert torch.equal(sucrose.load(tmp_path / "f.pt", weights_only=False)["custom"].weight, WEIGHT)
    with torch.serialization.safe_globals([Custom]):
        assert torch.equal(sucrose.load(tmp_path / "f.pt")["custom"].weight, WEIGHT)


class Attack:
    """Unpickling this runs a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_loading_runs_no_code_of_the_file(tmp_path: Path) -> None:
    for write in WRITERS.values():
        write([WEIGHT, Attack(tmp_path / "attacked")], tmp_path / "f.pt")
        with pytest.raises(UnsafeObjectError):
            sucrose.load(tmp_path / "f.pt")
    assert not (tmp_path / "attacked").exists()


def repack(path: Path, **replaced: bytes) -> None:
    """Replaces records (by the last part of their name) and leaves checksums right."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            info.extra = b"FB" + (100).to_bytes(2, "little") + bytes(100)
            archive.writestr(info, replaced.get(name.rpartition("/")[2].replace(".", "_"), content))


def test_records_with_other_padding_are_found(tmp_path: Path, engine: str) -> None:
    state = {"a": WEIGHT, "b": torch.ones(100_000), "c": torch.empty(0), "d": torch.zeros(1000)}
    torch.save(state, tmp_path / "f.pt")
    repack(tmp_path / "f.pt")
    assert_same(sucrose.load(tmp_path / "f.pt"), state)


def hostile_pickle(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


STORAGE = b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0%bX\x03\0\0\0cpuK%bt"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n(("


def tensor_pickle(key: bytes = b"0", numel: int = 12, size: int = 12) -> bytes:
    layout = b"QK\0K%b\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR" % bytes([size])
    return hostile_pickle(REBUILD + STORAGE % (key, bytes([numel])) + layout)


def test_a_hand_made_pickle_is_read_like_any_other(tmp_path: Path) -> None:
    sucrose.save(WEIGHT, tmp_path / "f.pt")
    repack(tmp_path / "f.pt", data_pkl=tensor_pickle())
    assert torch.equal(sucrose.load(tmp_path / "f.pt"), WEIGHT.reshape(-1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tensor_pickle(key=b"7"), "'7' .* is missing"),
        (tensor_pickle(numel=13), "has 48 bytes, expected 52"),
        (tensor_pickle(size=200), "has 48 bytes, but a tensor in it needs 800"),
    ],
)
def test_a_pickle_that_does_not_fit_its_storages_is_corrupt(tmp_path: Path, data: bytes, reason: str) -> None:
    sucrose.save(WEIGHT, tmp_path / "f.pt")
    repack(tmp_path / "f.pt", data_pkl=data)
    for weights_only in (True, False):
        with pytest.raises(CorruptionError, match=reason) as raised:
            sucrose.load(tmp_path / "f.pt", weights_only=weights_only)
        assert raised.value.path == str(tmp_path / "f.pt")


HOSTILE = {
    "an import": b"cos\nsystem\nX\x04\0\0\0true\x85R",
    "an import by protocol 0": b"cposix\nsystem\n(S'true'\ntR",
    "a call of what is no function": b"X\x01\0\0\0a)R",
    "a call of a storage class": b"ctorch\nFloatStorage\nK\x05\x85R",
    "attributes for a function": REBUILD[:-2] + b"}X\x01\0\0\0aK\x01sb",
    "attributes for a list": b"]}X\x01\0\0\0aK\x01sb",
    "a new object of any class": b"cbuiltins\nobject\n)\x81",
    "an unknown persistent id": b"X\x03\0\0\0etcK\x01K\x01K\x01K\x01tQ",
    "an unknown operation": b"\xff",
}


@pytest.mark.parametrize("opcodes", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_pickle_is_refused(tmp_path: Path, opcodes: bytes) -> None:
    sucrose.save(WEIGHT, tmp_path / "f.pt")
    repack(tmp_path / "f.pt", data_pkl=hostile_pickle(opcodes))
    with pytest.raises((UnsafeObjectError, CorruptionError)):
        sucrose.load(tmp_path / "f.pt")


def test_pickles_of_other_protocols_are_loaded(tmp_path: Path) -> None:
    for protocol in (3, 4, 5):
        torch.save({"w": WEIGHT, "t": (1, 2.5, "é", b"x")}, tmp_path / "f.pt", pickle_protocol=protocol)
        found = sucrose.load(tmp_path / "f.pt", weights_only=False)
        assert_same(found, {"w": WEIGHT, "t": (1, 2.5, "é", b"x")})


def test_what_cannot_be_pickled_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError)):
        sucrose.save({"f": lambda: None}, tmp_path / "f.pt")
    assert list(tmp_path.iterdir()) == []


# --- damage


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_flipped_bit_in_a_tensor_is_found_and_named(tmp_path: Path, engine: str, write) -> None:
    path = tmp_path / "f.pt"
    write({"a": WEIGHT, "b": torch.ones(2_000_000)}, path)
    file = bytearray(path.read_bytes())
    file[len(file) // 2] ^= 4
    path.write_bytes(file)
    with pytest.raises(CorruptionError, match="verify=False") as raised:
        sucrose.load(path)
    assert raised.value.path == str(path)
    assert raised.value.key.endswith("/data/1")
    assert raised.value.offset % 64 == 0
    damaged = sucrose.load(path, verify=False)
    assert (damaged["b"] != 1).sum() == 1


def test_a_flipped_bit_anywhere_changes_no_value(tmp_path: Path) -> None:
    path = tmp_path / "f.pt"
    state = {"a": WEIGHT, "b": 3}
    sucrose.save(state, path)
    sound = path.read_bytes()
    refused = 0
    for position in range(0, len(sound), 5):
        file = bytearray(sound)
        file[position] ^= 1 << position % 8
        path.write_bytes(file)
        try:
            assert_same(sucrose.load(path), state)
        except CorruptionError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_file_cut_off_is_corrupt(tmp_path: Path, write) -> None:
    path = tmp_path / "f.pt"
    write({"a": WEIGHT, "b": torch.ones(1000)}, path)
    file = path.read_bytes()
    for nbytes in (0, 4, 100, len(file) // 2, len(file) - 1):
        path.write_bytes(file[:nbytes])
        with pytest.raises(CorruptionError) as raised:
            sucrose.load(path)
        assert raised.value.path == str(path)


def test_files_that_are_something_else_are_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"just some text, longer than an end record")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a/b", b"c")
    for name in ("text", "zip"):
        with pytest.raises(CorruptionError, match=r"torch\.save"):
            sucrose.load(tmp_path / name)


def test_files_saved_without_checksums_are_loaded_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        torch.save({"a": WEIGHT}, tmp_path / "f.pt")
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    with caplog.at_level(logging.WARNING, "sucrose"):
        assert torch.equal(sucrose.load(tmp_path / "f.pt")["a"], WEIGHT)
    assert "without checksums" in caplog.text


# --- files of other kinds


@pytest.mark.parametrize("weights_only", [True, False])
def test_files_of_the_legacy_format_are_loaded(tmp_path: Path, weights_only: bool) -> None:
    torch.save({"a": WEIGHT}, tmp_path / "f.pt", _use_new_zipfile_serialization=False)
    found = sucrose.load(tmp_path / "f.pt", "cpu", weights_only=weights_only)
    assert torch.equal(found["a"], WEIGHT)


def test_the_legacy_format_is_no_way_around_weights_only(tmp_path: Path) -> None:
    torch.save([Attack(tmp_path / "attacked")], tmp_path / "f.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UnsafeObjectError, match="weights_only=False"):
        sucrose.load(tmp_path / "f.pt")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.filterwarnings("ignore")
def test_torchscript_archives_are_loaded_by_torch(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "f.pt"))
    loaded = sucrose.load(tmp_path / "f.pt", weights_only=False)
    assert loaded(torch.ones(1, 2)).shape == (1, 2)


def test_files_of_the_other_byte_order_are_loaded_by_torch(tmp_path: Path) -> None:
    sucrose.save(torch.tensor([1, 256], dtype=torch.int16), tmp_path / "f.pt")
    other = {"little": b"big", "big": b"little"}[sys.byteorder]
    repack(tmp_path / "f.pt", byteorder=other)
    assert sucrose.load(tmp_path / "f.pt").tolist() == [256, 1]


# --- the file system


def test_paths_may_be_str_or_path_and_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("relative.pt", tmp_path / "absolute.pt", str(tmp_path / "é ü.pt"), "x" * 250 + ".pt"):
        sucrose.save(WEIGHT, path)
        assert torch.equal(sucrose.load(path), WEIGHT)
        assert torch.equal(torch.load(path), WEIGHT)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        sucrose.load(tmp_path / "missing.pt")
    assert raised.value.filename == str(tmp_path / "missing.pt")
    with pytest.raises(IsADirectoryError):
        sucrose.load(tmp_path)
    with pytest.raises(IsADirectoryError):
        sucrose.save(WEIGHT, tmp_path)
    with pytest.raises(FileNotFoundError) as raised:
        sucrose.save(WEIGHT, tmp_path / "missing" / "f.pt")
    assert raised.value.filename == str(tmp_path / "missing")


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="regular file") as raised:
        sucrose.save(WEIGHT, tmp_path / "fifo")
    assert raised.value.errno == errno.EINVAL
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f.pt").write_bytes(b"before")
    (tmp_path / "latest.pt").symlink_to(tmp_path / "real" / "f.pt")
    sucrose.save(WEIGHT, tmp_path / "latest.pt")
    assert (tmp_path / "latest.pt").is_symlink()
    assert torch.equal(torch.load(tmp_path / "real" / "f.pt"), WEIGHT)


@pytest.mark.parametrize("durable", [True, False])
def test_a_save_replaces_the_file_and_leaves_nothing_else(tmp_path: Path, engine: str, durable: bool) -> None:
    for value in (torch.ones(5), WEIGHT):
        sucrose.save(value, tmp_path / "f.pt", durable=durable)
    assert [path.name for path in tmp_path.iterdir()] == ["f.pt"]
    assert torch.equal(sucrose.load(tmp_path / "f.pt"), WEIGHT)


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_save_that_fails_leaves_the_previous_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    sucrose.save(WEIGHT, tmp_path / "f.pt")

    def fail(*_args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with override_options(engine="reference"), monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(OSError, match="Input/output error"):
            sucrose.save(torch.zeros(5), tmp_path / "f.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["f.pt"]
    assert torch.equal(sucrose.load(tmp_path / "f.pt"), WEIGHT)


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "f.pt"
    sucrose.save(torch.zeros(50_000), path)
    problems: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                found = sucrose.load(path)
                assert (found == found[0]).all()
            except BaseException as error:  # noqa: BLE001 - reported by the test
                problems.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    for value in range(1, 40):
        sucrose.save(torch.full((50_000,), float(value)), path, durable=False)
    done.set()
    thread.join()
    assert problems == []

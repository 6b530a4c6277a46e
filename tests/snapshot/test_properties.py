"""Properties that hold for every state, engine and setting, tried on random ones."""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same, raw_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from warm_python import WarmPython

from sucrose import Snapshot, StateDict
from sucrose.engine import CHUNK_NBYTES, Extents, make_engine
from sucrose.errors import CorruptionError
from sucrose.options import Options, override_options

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    from sucrose.engine import Engine

pytestmark = pytest.mark.any_backend

DTYPES = [
    *(torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e5m2, torch.complex64),
    *(torch.int64, torch.int32, torch.int8, torch.uint8, torch.uint16, torch.bool),
]
SMALL = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    nbytes = math.prod(shape) * dtype.itemsize
    bits = torch.frombuffer(bytearray(draw(st.binary(min_size=nbytes, max_size=nbytes)) + b"\0"), dtype=torch.uint8)
    tensor = (bits[:nbytes] & 1 if dtype is torch.bool else bits[:nbytes].clone()).view(dtype).view(shape)
    change = draw(st.sampled_from(["none", "transpose", "skip", "expand"]))
    if change == "transpose":
        return tensor.permute(tuple(reversed(range(tensor.ndim))))
    if change == "skip" and tensor.ndim:
        return tensor[::2]
    if change == "expand" and tensor.ndim:
        return tensor.unsqueeze(1).expand(-1, 2, *tensor.shape[1:])
    return tensor


KEYS = st.text(max_size=4) | st.sampled_from(["a/b", "%", "..", "0", "1"]) | st.integers(-3, 3)
# Not b"": in an object, torch does not take it for harmless.
PRIMITIVES = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.text(st.characters(), max_size=5)
    | st.binary(min_size=1, max_size=5)
)
LEAVES = tensors() | PRIMITIVES | st.none() | st.tuples(st.integers(), st.text(max_size=2))
STATES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


def blank(value: Any) -> Any:
    """The same structure with other tensors in it."""
    if isinstance(value, torch.Tensor):
        return torch.zeros(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return type(value)((key, blank(item)) for key, item in value.items())
    return [blank(item) for item in value] if isinstance(value, list) else None


@SMALL
@given(state=STATES, max_file_nbytes=st.sampled_from([0, 64, 1 << 30]), max_chunk_nbytes=st.sampled_from([0, 8, 50]))
def test_every_state_comes_back(state: Any, max_file_nbytes: int, max_chunk_nbytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with override_options(max_file_nbytes=max_file_nbytes, max_chunk_nbytes=max_chunk_nbytes):
            snapshot = Snapshot.take(folder + "/s", {"state": StateDict(v=state)}, durable=False)
        assert_same(snapshot.get_state_dict_for_key("state")["v"], state)
        target = StateDict(v=blank(state))
        Snapshot(folder + "/s").restore({"state": target})
        assert_same(target["v"], state)


def files_of(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@SMALL
@given(state=STATES, max_file_nbytes=st.sampled_from([0, 64, 1 << 30]))
def test_both_engines_write_the_same_files_and_read_each_others(state: Any, max_file_nbytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for engine in ("native", "reference"):
            with override_options(engine=engine, max_file_nbytes=max_file_nbytes):
                Snapshot.take(f"{folder}/{engine}", {"state": StateDict(v=state)}, durable=False)
        assert files_of(f"{folder}/native") == files_of(f"{folder}/reference")
        with override_options(engine="reference"):
            assert_same(Snapshot(f"{folder}/native").get_state_dict_for_key("state")["v"], state)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("intact") / "s"
    values = {"a": torch.randn(500), "b": torch.arange(7), "o": (1, "x"), "n": 5, "l": [torch.ones(2)]}
    Snapshot.take(path, {"state": StateDict(**values)})
    return path


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_changed_byte_in_any_file_is_found(intact: Path, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(sorted(path for path in intact.rglob("*") if path.is_file())))
    content = file.read_bytes()
    offset = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(st.integers(1, 255))
    damaged = bytearray(content)
    damaged[offset] ^= change
    file.write_bytes(damaged)
    try:
        with pytest.raises(CorruptionError):
            Snapshot(intact).get_state_dict_for_key("state")
        assert not Snapshot(intact).verify()
    finally:
        file.write_bytes(content)


# --- settings of the native engine ------------------------------------------------------------------------------------

VARIANTS: dict[str, Callable[[], Options]] = {
    "reference": lambda: Options(engine="reference"),
    "default": Options,
    "threads": lambda: Options(io_backend="threads", io_depth=3),
    "always direct": lambda: Options(direct_min_nbytes=0, read_mode="direct"),
    "always direct, threads": lambda: Options(direct_min_nbytes=0, read_mode="direct", io_backend="threads"),
    "never direct": lambda: Options(direct_min_nbytes=1 << 60, read_mode="buffered"),
    "one of everything": lambda: Options(ring_slots=1, workers=1, io_depth=1, io_backend="threads"),
}


@cache
def engine_of(variant: str) -> Engine:
    return make_engine(VARIANTS[variant]())


def extents_of(pieces: list[bytearray]) -> Extents:
    extents = Extents(keep_alive=list(pieces))
    for piece in pieces:
        view = torch.frombuffer(piece, dtype=torch.uint8)
        extents.keep_alive.append(view)
        extents.append(view.data_ptr(), len(piece))
    return extents


SIZES = st.integers(1, 9000) | st.sampled_from([4096, 8192, CHUNK_NBYTES - 1, CHUNK_NBYTES, CHUNK_NBYTES + 4097])


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "reference"])
@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(SIZES, min_size=1, max_size=6), seed=st.integers(0, 99), chosen=st.data())
def test_every_setting_writes_and_reads_what_the_reference_does(
    variant: str, sizes: list[int], seed: int, chosen: st.DataObject
) -> None:
    generator = torch.Generator().manual_seed(seed)
    content = raw_bytes(torch.randint(256, (sum(sizes),), dtype=torch.uint8, generator=generator))
    bounds = [sum(sizes[:index]) for index in range(len(sizes) + 1)]
    pieces = [bytearray(content[a:b]) for a, b in itertools.pairwise(bounds)]
    wanted = chosen.draw(st.lists(st.sampled_from(range(len(sizes))), unique=True).map(sorted))
    with tempfile.TemporaryDirectory() as folder:
        results = {}
        for name in (variant, "reference"):
            results[name] = engine_of(name).write(f"{folder}/{name}", extents_of(pieces), durable=False).wait()
            assert Path(folder, name).read_bytes() == content
        assert results[variant] == results["reference"]
        for digests in (results[variant].digests, b""):
            got = [bytearray(sizes[index]) for index in wanted]
            result = (
                engine_of(variant)
                .read(
                    f"{folder}/reference",
                    _array([bounds[index] for index in wanted]),
                    extents_of(got),
                    file_nbytes=len(content),
                    digests=digests,
                )
                .wait()
            )
            assert list(result.corrupt) == []
            assert got == [pieces[index] for index in wanted]


def _array(values: list[int]) -> array[int]:
    extents = Extents()
    extents.nbytes.extend(values)
    return extents.nbytes


PROGRAM = """
import sys, torch
from sucrose import Snapshot, StateDict
torch.manual_seed(0)
values = {"large": torch.randn(3_000_000), "strided": torch.randn(1500, 1000).t(), "object": (1, 2)}
values |= {f"small {i}": torch.randn(i) for i in range(1, 50)}
Snapshot.take(sys.argv[1], {"state": StateDict(**values)})
got = Snapshot(sys.argv[1]).get_state_dict_for_key("state")
assert all(torch.equal(got[name], value) for name, value in values.items() if name != "object")
assert Snapshot(sys.argv[1]).verify()
"""


@pytest.fixture
def python() -> Iterator[WarmPython]:
    python = WarmPython()
    yield python
    python.close()


def test_a_snapshot_is_the_same_under_every_setting(python: WarmPython, tmp_path: Path) -> None:
    contents = []
    for variant, make_options in VARIANTS.items():
        options, default = make_options(), Options()
        changed = {
            f"SUCROSE_{name.upper()}": str(getattr(options, name))
            for name in Options.__slots__
            if getattr(options, name) != getattr(default, name)
        }
        done = python.run(PROGRAM, [str(tmp_path / variant)], {**os.environ, **changed}, timeout_s=300)
        assert done.returncode == 0, f"{variant}\n{done.stderr}"
        contents.append(files_of(str(tmp_path / variant)))
    assert len(contents[0]) == 4
    assert all(content == contents[0] for content in contents)

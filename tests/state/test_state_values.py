"""Values of states: taken apart, written, read and put together again."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import logging
import pathlib
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from bitwise import assert_same, raw_bytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sucrose import Snapshot
from sucrose.errors import CorruptionError, StateMismatchError, UnsafeObjectError, UnsupportedError
from sucrose.state.picklable import Picklable, PicklableDict, PicklableWrapper
from sucrose.state.values import FrozenState, freeze, from_state_dict, thaw, to_state_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# What torch's own quantized tensors say, also when torch itself saves and loads them.
pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage is deprecated", "ignore:torch.quantize_per_tensor")


class Stored:
    """A stateful that is only saved."""

    def __init__(self, value: Any) -> None:
        self.frozen = freeze(value, "value")

    def state_dict(self) -> dict[str, Any]:
        return to_state_dict(self.frozen)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise AssertionError


def through_memory(value: Any, distrust: str | None = None) -> Any:
    frozen = from_state_dict(to_state_dict(freeze(value, "value")))
    copied = FrozenState(frozen.pickled, tuple(storage.clone() for storage in frozen.storages))
    return thaw(copied, key="value", source="memory", distrust=distrust)


def through_snapshot(value: Any, folder: Path) -> Any:
    return read_back(Snapshot.take(folder / "snapshot", {"value": Stored(value)}, durable=False))


def read_back(snapshot: Snapshot) -> Any:
    frozen = from_state_dict(Snapshot(snapshot.path).get_state_dict_for_key("value"))
    return thaw(frozen, key="value", source=snapshot.path, distrust=None)


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: int
    tensor: torch.Tensor


@dataclasses.dataclass
class Progress:
    epoch: int
    history: list[float] = dataclasses.field(default_factory=list)


class Pair(collections.namedtuple("Pair", "a b")):  # noqa: PYI024, SLOT002
    pass


class Slotted(Picklable):
    __slots__ = ("inner",)


PLAIN = {
    "none": None,
    "str": "größer\ud800\n",
    "bytes": bytes(range(256)),
    "bytearray": bytearray(b"\0\xff"),
    "numbers": [True, 1, -(2**70), 0.5, -0.0, 1j, float("inf")],
    "set": {1, "a", (2, 3)},
    "nested": {"a": [{"b": ({1: [None]},)}], 2: "int key", (1, 2): "tuple key"},
    "ordered": collections.OrderedDict(b=1, a=2),
    "counter": collections.Counter("aab"),
    "frozenset": frozenset({1, 2}),
    "no bytes": [b"", bytearray()],
}
OBJECTS = {
    "range": range(2, 10, 3),
    "decimal": decimal.Decimal("0.1"),
    "datetime": datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc),
    "timedelta": datetime.timedelta(days=1, microseconds=3),
    "path": pathlib.Path("/tmp/x"),
    "enum": Color.RED,
    "dataclass": Progress(3, [0.1]),
    "namedtuple": Pair(1, [2]),
    "deque": collections.deque([1, 2], maxlen=3),
    "defaultdict": collections.defaultdict(list, a=[1]),
    "type": Progress,
    "partial of a function": [functools.partial(sorted, reverse=True).keywords],
    "dtype": [torch.float16, torch.device("cpu"), torch.Size([2])],
}


@pytest.mark.parametrize("value", [*PLAIN.values(), *OBJECTS.values()], ids=[*PLAIN, *OBJECTS])
def test_values_come_back_as_they_were(value: Any) -> None:
    assert_same(through_memory(value), value)


@pytest.mark.parametrize("value", PLAIN.values(), ids=PLAIN)
def test_plain_values_come_back_from_places_that_are_not_trusted(value: Any) -> None:
    assert_same(through_memory(value, distrust="it is a test"), value)


TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "float": lambda: torch.randn(3, 4),
    "bfloat16": lambda: torch.randn(5).bfloat16(),
    "complex": lambda: torch.randn(2, dtype=torch.complex64),
    "conjugate": lambda: torch.randn(2, dtype=torch.complex64).conj(),
    "bool": lambda: torch.tensor([True, False]),
    "uint16": lambda: torch.tensor([1, 65535]).to(torch.uint16),
    "float8": lambda: torch.randn(4).to(torch.float8_e4m3fn),
    "empty": lambda: torch.empty(0, 3),
    "scalar": lambda: torch.tensor(3),
    "strided": lambda: torch.arange(24.0).view(4, 6).t()[1:, ::2],
    "expanded": lambda: torch.ones(1).expand(3),
    "channels last": lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "requires grad": lambda: torch.randn(2, requires_grad=True),
    "of a graph": lambda: torch.randn(2, requires_grad=True) * 2,
    "sparse": lambda: torch.eye(3).to_sparse(),
    "quantized": lambda: torch.quantize_per_tensor(torch.randn(3), 0.1, 2, torch.qint8),
    "shared memory": lambda: torch.randn(3).share_memory_(),
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("distrust", [None, "it is a test"])
def test_tensors_come_back_bit_for_bit(kind: str, distrust: str | None) -> None:
    tensor = TENSORS[kind]()
    restored = through_memory([tensor], distrust)[0]
    assert_same(restored, tensor.detach() if kind == "of a graph" else tensor)
    assert restored.requires_grad == tensor.requires_grad
    if tensor.layout is torch.strided:
        assert restored.stride() == tensor.stride()


def test_a_snapshot_of_all_kinds_of_values_restores_them(tmp_path: Path, each_engine: str) -> None:
    value = {**PLAIN, **OBJECTS, **{f"tensor {kind}": make().detach() for kind, make in TENSORS.items()}}
    assert_same(through_snapshot(value, tmp_path), value)


def test_tensors_are_found_inside_of_objects_and_not_copied() -> None:
    weight = torch.randn(3)
    frozen = freeze({"a": [Point(1, weight)]}, "value")
    assert [storage._cdata for storage in frozen.storages] == [weight.untyped_storage()._cdata]
    stored = to_state_dict(frozen)["storages"]["0"]
    weight[0] = 7.0
    assert raw_bytes(stored) == raw_bytes(weight)
    restored = thaw(frozen, key="value", source="memory", distrust=None)
    assert restored["a"][0].x == 1
    assert_same(restored["a"][0].tensor, weight)


def test_views_and_tied_tensors_share_memory_again(tmp_path: Path, each_engine: str) -> None:
    base = torch.arange(6.0)
    value = {"base": base, "row": base[2:4], "tied": base, "wrapped": Progress(0, [base.view(2, 3)])}  # type: ignore[list-item]
    restored = through_snapshot(value, tmp_path)
    restored["base"][2] = -1.0
    assert restored["row"][0] == -1.0
    assert restored["tied"] is restored["base"]
    assert restored["wrapped"].history[0][0, 2] == -1.0


def test_modules_and_optimizers_come_back_as_objects(tmp_path: Path, each_engine: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    model_2, optimizer_2 = through_snapshot((model, optimizer), tmp_path)
    assert_same(model_2.state_dict(), model.state_dict())
    assert_same(optimizer_2.state_dict(), optimizer.state_dict())
    assert type(model_2[0].weight) is torch.nn.Parameter
    assert optimizer_2.param_groups[0]["params"][0] is model_2[0].weight


def test_values_that_contain_themselves_come_back() -> None:
    value: list[Any] = [PicklableDict(), PicklableWrapper()]
    value[0]["all"] = value
    value[1].value = value[1]
    restored = through_memory(value)
    assert restored[0]["all"] is restored
    assert restored[1].value is restored[1]
    assert through_memory(value, distrust="it is a test")[0]["all"]


@pytest.mark.parametrize("distrust", [None, "it is a test"])
def test_the_classes_for_states_come_back_from_anywhere(distrust: str | None) -> None:
    value = PicklableDict(k1=3, nested=PicklableWrapper([torch.ones(2), {"a": PicklableDict()}]))
    restored = through_memory(value, distrust)
    assert type(restored) is PicklableDict
    assert restored["k1"] == 3
    assert_same(restored["nested"].value[0], torch.ones(2))
    assert type(restored["nested"].value[1]["a"]) is PicklableDict


def test_a_slotted_class_for_states_comes_back() -> None:
    value = Slotted()
    value.inner = torch.ones(2)
    assert_same(through_memory(value).inner, torch.ones(2))


ARRAYS = {
    "large": np.arange(1000.0),
    "small": np.arange(3, dtype=">i2"),
    "empty": np.empty((0, 2)),
    "zero-dimensional": np.array(5.0),
    "fortran": np.asfortranarray(np.arange(1000.0).reshape(20, 50)),
    "strided": np.arange(2000).reshape(40, 50)[::2, ::-5],
    "bool": np.ones(2000, bool),
    "complex": np.ones(300, np.complex128),
    "half": np.ones(1000, np.float16),
    "dates": np.arange(500).astype("datetime64[s]"),
    "text": np.array(["a", "ä€"] * 500),
    "bytes": np.array([b"ab", b"c"] * 500),
}


@pytest.mark.parametrize("kind", ARRAYS)
@pytest.mark.parametrize("distrust", [None, "it is a test"])
def test_arrays_come_back_from_anywhere(kind: str, distrust: str | None) -> None:
    array = ARRAYS[kind]
    restored = through_memory({"array": array}, distrust)["array"]
    assert restored.dtype == array.dtype
    assert restored.shape == array.shape
    assert restored.tobytes() == array.tobytes()
    assert restored.flags.f_contiguous == array.flags.f_contiguous or not array.flags.contiguous
    assert restored.flags.writeable


@pytest.mark.parametrize("scalar", [np.float32(0.1), np.int64(-3), np.bool_(True), np.datetime64(3, "D"), np.str_("ä")])
@pytest.mark.parametrize("distrust", [None, "it is a test"])
def test_scalars_of_numpy_come_back_from_anywhere(scalar: Any, distrust: str | None) -> None:
    restored = through_memory([scalar], distrust)[0]
    assert type(restored) is type(scalar)
    assert restored == scalar


def test_arrays_that_numpy_has_to_pickle_itself_come_back() -> None:
    records = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    objects = np.array([{"a": 1}, None], dtype=object)
    masked = np.ma.masked_array([1, 2], mask=[True, False])
    read_only = np.arange(500.0)
    read_only.flags.writeable = False
    restored = through_memory([records, objects, masked, read_only])
    assert restored[0].dtype == records.dtype
    assert restored[0]["b"][0] == 2.0
    assert restored[1].tolist() == [{"a": 1}, None]
    assert restored[2].tolist() == [None, 2]
    assert restored[3].tolist() == read_only.tolist()


def test_a_large_array_is_not_copied() -> None:
    array = np.zeros(1000)
    frozen = freeze(array, "value")
    array[3] = 1.0
    assert thaw(frozen, key="value", source="memory", distrust=None)[3] == 1.0


def test_an_asynchronous_snapshot_has_the_value_of_its_moment(tmp_path: Path, each_engine: str) -> None:
    value = {"tensor": torch.zeros(1000), "array": np.zeros(1000), "steps": [1], "object": Progress(1)}
    stored = Stored(value)
    pending = Snapshot.async_take(tmp_path / "snapshot", {"value": stored}, durable=False)
    value["tensor"].fill_(9)
    value["array"].fill(9)
    value["steps"].append(2)
    value["object"].epoch = 9
    restored = read_back(pending.wait())
    assert_same(restored["tensor"], torch.zeros(1000))
    assert restored["array"].tolist() == [0.0] * 1000
    assert (restored["steps"], restored["object"]) == ([1], Progress(1))


_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.lists(st.integers(-128, 127), max_size=5).map(lambda items: torch.tensor(items, dtype=torch.int8))
)
_keys = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
_values = st.recursive(
    _leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(_keys, inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=3).map(PicklableDict)
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_values)
def test_any_nesting_comes_back(value: Any) -> None:
    assert_same(through_memory(value), value)


class _Runs:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('the pickle has run code')",)


@pytest.mark.parametrize(
    "value",
    [_Runs(), Progress(1), {"a": [torch.ones(1), Color.RED]}, print, pathlib.Path("/x")],
    ids=lambda v: str(type(v)),
)
def test_what_could_run_code_is_refused_with_the_reason_and_the_way_out(value: Any) -> None:
    frozen = freeze(value, "progress")
    reason = "'/x' is writable by all users (if none of them did write there: chmod go-w /x)"
    with pytest.raises(UnsafeObjectError) as refused:
        thaw(frozen, key="progress", source="/x/7", distrust=reason)
    assert (refused.value.key, refused.value.path) == ("progress", "/x/7")
    assert reason in str(refused.value)
    assert "add_safe_globals" in str(refused.value)


def test_a_class_that_the_program_allows_comes_back_from_anywhere() -> None:
    with torch.serialization.safe_globals([Progress]):
        assert through_memory(Progress(3), distrust="it is a test") == Progress(3)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (threading.Lock(), "_thread.lock"),
        ({"a": [lambda: 1]}, "function"),
        ({"a": (number for number in ())}, "generator"),
        (Progress(1, [threading.Thread()]), "lock"),  # type: ignore[list-item]
        (torch.empty(1, device="meta").untyped_storage(), "meta"),
    ],
    ids=["lock", "lambda", "generator", "lock in an object", "meta storage"],
)
def test_what_cannot_be_pickled_is_named(value: Any, what: str) -> None:
    with pytest.raises(UnsupportedError) as refused:
        freeze(value, "progress")
    assert refused.value.key == "progress"
    assert "'progress'" in str(refused.value)
    assert what in str(refused.value)


def test_what_fails_in_its_own_way_while_it_is_pickled_is_named() -> None:
    class Odd:
        def __reduce__(self) -> Any:
            raise KeyError("odd")

    with pytest.raises(UnsupportedError, match="Odd") as refused:
        freeze([Odd()], "progress")
    assert refused.value.key == "progress"
    assert isinstance(refused.value.__cause__, KeyError)


def test_a_tensor_without_memory_is_refused() -> None:
    freed = torch.ones(3)
    freed.untyped_storage().resize_(0)
    with pytest.raises(UnsupportedError, match="no memory") as refused:
        freeze({"weight": freed}, "model")
    assert refused.value.key == "model"


def test_a_value_that_is_nested_too_deeply_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(UnsupportedError, match="deeply") as refused:
        freeze(value, "progress")
    assert refused.value.key == "progress"
    while value:  # level by level, since dropping it at once would overflow the stack of some Pythons
        value = value[0]


class _Disturbed:
    """Changes the dict that it is in while that is pickled, for the first few times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.around: dict[int, Any] = {}

    def __reduce__(self) -> Any:
        if self.times > 0:
            self.times -= 1
            self.around[len(self.around)] = None
        return int, (0,)


def test_a_value_that_changes_while_it_is_pickled_is_tried_again() -> None:
    disturbed = _Disturbed(times=2)
    disturbed.around.update({0: disturbed, 1: None})
    restored = thaw(freeze(disturbed.around, "value"), key="value", source="memory", distrust=None)
    assert restored == {0: 0, 1: None, 2: None, 3: None}


def test_a_value_that_never_keeps_still_is_refused() -> None:
    disturbed = _Disturbed(times=1000)
    disturbed.around.update({0: disturbed, 1: None})
    with pytest.raises(UnsupportedError, match="pause_periodic_saving") as refused:
        freeze(disturbed.around, "progress")
    assert refused.value.key == "progress"


def test_a_dict_that_another_thread_fills_is_saved_as_it_was_at_some_moment() -> None:
    value: dict[int, int] = {}
    stop = threading.Event()

    def fill() -> None:
        for number in range(20_000):
            if stop.is_set():
                return
            value[number] = number
            if number % 100 == 0:
                time.sleep(0)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        for _ in range(20):
            restored = thaw(freeze(value, "value"), key="value", source="memory", distrust=None)
            assert list(restored) == list(range(len(restored)))
    finally:
        stop.set()
        thread.join()


def test_tensors_of_a_device_that_is_gone_come_back_on_the_host(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:63")
        frozen = freeze({"a": torch.ones(2), "b": torch.nn.Parameter(torch.zeros(2))}, "model")
    with caplog.at_level(logging.WARNING, "sucrose"):
        restored = thaw(frozen, key="model", source="memory", distrust=None)
    assert restored["a"].device.type == "cpu"
    assert_same(restored["a"], torch.ones(2))
    assert [record.message for record in caplog.records] == [
        "the state 'model' was on cuda:63, which is not there: it is restored on the host"
    ]


def test_a_class_that_the_program_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = freeze(Progress(1), "progress")
    monkeypatch.delitem(globals(), "Progress")
    with pytest.raises(StateMismatchError, match="Progress") as missing:
        thaw(frozen, key="progress", source="/x/7", distrust=None)
    assert (missing.value.key, missing.value.path) == ("progress", "/x/7")


@pytest.mark.parametrize("distrust", [None, "it is a test"])
def test_a_broken_pickle_is_told_from_a_missing_class(distrust: str | None) -> None:
    frozen = freeze({"a": Progress(1), "b": torch.ones(1)}, "progress")
    cut = FrozenState(frozen.pickled[:-20], frozen.storages)
    with pytest.raises((CorruptionError, UnsafeObjectError)) as broken:
        thaw(cut, key="progress", source="/x/7", distrust=distrust)
    assert broken.value.path == "/x/7"
    with pytest.raises(CorruptionError):
        thaw(FrozenState(freeze(torch.ones(2), "x").pickled, ()), key="x", source="/x/7", distrust=distrust)
    tensor = freeze({"a": torch.ones(2)}, "x")
    for good, bad in ((b"cpu", b"c%u"), (b"_rebuild_tensor_v2", b"_rebuild_tensor_v0")):
        assert good in tensor.pickled
        with pytest.raises((CorruptionError, UnsafeObjectError, StateMismatchError), match="the state 'x'") as broken:
            thaw(
                FrozenState(tensor.pickled.replace(good, bad), tensor.storages), key="x", source="/", distrust=distrust
            )
        assert broken.value.key == "x"


@pytest.mark.parametrize(
    "state_dict", [{}, {"pickle": 3, "storages": {}}, {"pickle": torch.ones(1), "storages": {"1": 2}}]
)
def test_something_else_in_the_place_of_a_state_is_told(state_dict: dict[str, Any]) -> None:
    with pytest.raises(CorruptionError):
        from_state_dict(state_dict)

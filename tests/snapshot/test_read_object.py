"""Single values, manifests and metadata can be read without restoring anything."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from bitwise import assert_same

from sucrose import Snapshot, StateDict
from sucrose.errors import StateMismatchError
from sucrose.formats.manifest import encode_metadata
from torchsnapshot import knobs, manifest
from torchsnapshot.manifest_utils import is_fully_replicated_entry

if TYPE_CHECKING:
    from pathlib import Path

VALUES: dict[str, Any] = {
    "tensor": torch.randn(700, 3000),  # two chunks of the file and a bit
    "half": torch.randn(5).half(),
    "number": 3,
    "object": (1, "two"),
    "nested": OrderedDict(list=[torch.ones(2), {"deep": 1.5}], **{"a/b": b"bytes"}),
}


@pytest.fixture(scope="module", params=["whole", "chunked"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param) / "s"
    with knobs.override_max_chunk_size_bytes(1_000_000 if request.param == "chunked" else 0):
        Snapshot.take(path, {"state": StateDict(**VALUES), "model": torch.nn.Linear(3, 2)})
    return path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, value) for name, value in VALUES.items()),
        ("nested/list", VALUES["nested"]["list"]),
        ("nested/list/1", {"deep": 1.5}),
        ("nested/list/1/deep", 1.5),
        ("nested/a%2Fb", b"bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_any_value_or_container_can_be_read(each_engine: str, path: Path, name: str, expected: object) -> None:
    assert_same(Snapshot(path).read_object(f"0/state/{name}"), expected)


@pytest.mark.parametrize("budget", [None, 1, 5 << 20, 1 << 40])
def test_a_tensor_is_read_into_the_one_that_is_given(each_engine: str, path: Path, budget: int | None) -> None:
    target = torch.zeros(700, 3000)
    got = Snapshot(path).read_object("0/state/tensor", obj_out=target, memory_budget_bytes=budget)
    assert got is target
    assert_same(target, VALUES["tensor"])
    assert_same(Snapshot(path).read_object("0/state/tensor", memory_budget_bytes=budget), VALUES["tensor"])


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_of_nothing_is_refused(path: Path, budget: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Snapshot(path).read_object("0/state/tensor", memory_budget_bytes=budget)


BAD_TARGETS = {
    "shape": torch.zeros(3000, 700),
    "dtype": torch.zeros(700, 3000, dtype=torch.float64),
    "share memory": torch.zeros(1, 3000).expand(700, 3000),
    "meta": torch.empty(700, 3000, device="meta"),
}


@pytest.mark.parametrize("reason", BAD_TARGETS)
def test_a_target_that_cannot_take_the_value_is_left_alone(path: Path, reason: str) -> None:
    with pytest.raises(StateMismatchError, match=reason) as caught:
        Snapshot(path).read_object("0/state/tensor", obj_out=BAD_TARGETS[reason])
    assert caught.value.key == "0/state/tensor"
    assert caught.value.path == str(path)
    assert BAD_TARGETS[reason].is_meta or not BAD_TARGETS[reason].any()


def test_a_container_is_read_into_the_tensors_of_another(path: Path) -> None:
    target = {"list": [torch.zeros(2)]}
    got = Snapshot(path).read_object("0/state/nested", obj_out=target)
    assert got["list"][0] is target["list"][0]
    assert_same(got, VALUES["nested"])


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("0/state/tensr", "0/state/tensor"), ("0/stat", "0/state"), ("1/state/haf", "0/state/half"), ("state", None)],
)
def test_an_unknown_path_is_answered_with_near_ones(path: Path, wrong: str, near: str | None) -> None:
    with pytest.raises(RuntimeError, match=f"'{wrong}' is not in the snapshot") as caught:
        Snapshot(path).read_object(wrong)
    assert near is None or repr(near) in str(caught.value)


def test_the_state_of_one_stateful_can_be_read_without_a_target(each_engine: str, path: Path) -> None:
    assert_same(Snapshot(path).get_state_dict_for_key("state"), VALUES)
    model = torch.nn.Linear(3, 2)
    model.load_state_dict(Snapshot(path).get_state_dict_for_key("model"))
    with pytest.raises(RuntimeError, match="0/modle"):
        Snapshot(path).get_state_dict_for_key("modle")


def test_the_manifest_tells_what_is_where(path: Path) -> None:
    entries = Snapshot(path).get_manifest()
    assert set(entries) == {
        *("0/state", *(f"0/state/{name}" for name in VALUES)),
        *(f"0/state/nested/{name}" for name in ("list", "list/0", "list/1", "list/1/deep", "a%2Fb")),
        *("0/model", "0/model/weight", "0/model/bias"),
    }
    assert isinstance(entries["0/state"], manifest.DictEntry)
    assert isinstance(entries["0/model"], manifest.OrderedDictEntry)
    assert isinstance(entries["0/state/nested/list"], manifest.ListEntry)
    assert isinstance(entries["0/state/object"], manifest.ObjectEntry)
    number = entries["0/state/number"]
    assert isinstance(number, manifest.PrimitiveEntry)
    assert number.get_value() == 3
    tensor = entries["0/state/tensor"]
    assert isinstance(tensor, (manifest.TensorEntry, manifest.ChunkedTensorEntry))
    assert (tensor.dtype, tensor.shape) == ("torch.float32", [700, 3000])
    assert not is_fully_replicated_entry(tensor)


def test_changing_the_returned_manifest_changes_nothing(path: Path) -> None:
    snapshot = Snapshot(path)
    snapshot.get_manifest().clear()
    assert len(snapshot.get_manifest()) > 5


def test_the_manifest_knows_where_the_bytes_lie(path: Path) -> None:
    entry = Snapshot(path).get_manifest()["0/state/half"]
    assert isinstance(entry, manifest.TensorEntry)
    assert entry.byte_range is not None
    begin, end = entry.byte_range
    content = (path / entry.location).read_bytes()[begin:end]
    assert_same(torch.frombuffer(bytearray(content), dtype=torch.float16), VALUES["half"])


def test_metadata_and_statistics_describe_the_snapshot(tmp_path: Path, path: Path) -> None:
    metadata = Snapshot(path).metadata
    assert (metadata.version, metadata.world_size) == ("0.1.0", 1)
    assert metadata.manifest == Snapshot(path).get_manifest()
    assert Snapshot(path).stats is None
    taken = Snapshot.take(tmp_path / "s", {"state": StateDict(**VALUES)})
    assert taken.stats is not None
    assert (taken.stats.tensors, taken.stats.objects) == (3, 1)
    assert taken.metadata == Snapshot(tmp_path / "s").metadata


def test_a_replicated_value_answers_for_any_rank(tmp_path: Path) -> None:
    replicated = manifest.PrimitiveEntry.from_value(5)
    replicated.replicated = True
    own = manifest.PrimitiveEntry.from_value(6)
    entries = {"0/s/shared": replicated, "0/s/own": own}
    metadata = manifest.SnapshotMetadata("0.1.0", 2, entries)  # type: ignore[arg-type]
    (tmp_path / ".snapshot_metadata").write_bytes(encode_metadata(metadata))
    snapshot = Snapshot(tmp_path)
    assert snapshot.read_object("1/s/shared") == 5
    assert snapshot.read_object("0/s/own") == 6
    with pytest.raises(RuntimeError, match="1/s/own"):
        snapshot.read_object("1/s/own")


def test_a_progress_bar_shows_when_it_is_asked_for(
    tmp_path: Path, each_engine: str, capfd: pytest.CaptureFixture[str]
) -> None:
    app_state = {"state": StateDict(v=torch.ones(3_000_000))}
    Snapshot.take(tmp_path / "a", app_state, progress=True)
    assert "saving" in capfd.readouterr().err
    Snapshot(tmp_path / "a").restore(app_state, progress=True)
    assert "restoring" in capfd.readouterr().err
    Snapshot.take(tmp_path / "b", app_state)
    Snapshot(tmp_path / "b").restore(app_state)
    assert capfd.readouterr().err == ""

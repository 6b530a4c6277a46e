"""Pickles with a payload: wherever they stand, nothing in them runs."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from forged_snapshots import forge, nothing_happens, payload

import sucrose
from sucrose import Snapshot, StateDict
from sucrose.errors import SucroseError, UnsafeObjectError
from sucrose.formats import torch_zip


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """What the payload would create, in a folder of its own."""
    (tmp_path / "trap").mkdir()
    return tmp_path / "trap" / "created"


@pytest.fixture
def folder(tmp_path: Path, trap: Path) -> Path:
    leaves = StateDict(leaf=[payload(trap)], weight=torch.ones(3))
    Snapshot.take(tmp_path / "s", {"state": leaves})
    return tmp_path / "s"


def readers(folder: Path) -> list[Any]:
    return [
        lambda: Snapshot(folder).restore({"state": StateDict(weight=torch.zeros(3))}),
        lambda: Snapshot(folder).get_state_dict_for_key("state"),
        lambda: Snapshot(folder).read_object("0/state/leaf/0"),
    ]


def test_the_payload_works_where_the_user_allows_it(folder: Path, trap: Path) -> None:
    Snapshot(folder).read_object("0/state/leaf/0", allow_pickle=True).close()
    assert trap.exists()


def test_a_payload_among_the_objects_does_not_run(folder: Path, trap: Path) -> None:
    for read in readers(folder):
        with nothing_happens(trap.parent), pytest.raises(UnsafeObjectError, match="allow_pickle=True") as caught:
            read()
        assert caught.value.key == "0/state/leaf/0"
    assert Snapshot(folder).verify(), "a payload is no damage"


def test_a_payload_without_verification_does_not_run_either(folder: Path, trap: Path) -> None:
    target = StateDict(weight=torch.zeros(3))
    with nothing_happens(trap.parent), pytest.raises(UnsafeObjectError):
        Snapshot(folder).restore({"state": target}, verify=False)
    assert not target["weight"].any(), "nothing was restored"


def test_a_payload_in_the_place_of_a_tensor_does_not_run(folder: Path, trap: Path) -> None:
    """The entry says that the tensor was pickled, as quantized ones are."""

    def as_tensor(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        entry = metadata["manifest"]["0/state/weight"]
        location = metadata["manifest"]["0/state/leaf/0"]["location"]
        entry.update(serializer="torch_save", location=location, byte_range=None)
        del metadata["manifest"]["0/state/leaf/0"], metadata["manifest"]["0/state/leaf"]
        metadata["manifest"]["0/state"]["keys"].remove("leaf")

    forge(folder, as_tensor)
    for read in readers(folder)[:2]:
        with nothing_happens(trap.parent), pytest.raises(UnsafeObjectError):
            read()


def test_a_payload_in_a_part_of_a_tensor_does_not_run(folder: Path, trap: Path) -> None:
    def as_part(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        tensor = metadata["manifest"]["0/state/weight"]
        tensor.update(
            serializer="torch_save", location=metadata["manifest"]["0/state/leaf/0"]["location"], byte_range=None
        )
        part = {"offsets": [0], "sizes": [3], "tensor": tensor}
        metadata["manifest"]["0/state/weight"] = {
            "type": "ChunkedTensor", "dtype": "torch.float32", "shape": [3], "chunks": [part], "replicated": False
        }  # fmt: skip

    forge(folder, as_part)
    with nothing_happens(trap.parent), pytest.raises(UnsafeObjectError):
        Snapshot(folder).read_object("0/state/weight")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_payload_in_a_file_of_old_torch_does_not_run(folder: Path, trap: Path) -> None:
    """Files of torch before 1.6 are several pickles in a row, each of which could have it."""
    buffer = io.BytesIO()
    torch.save([payload(trap)], buffer, _use_new_zipfile_serialization=False)
    for content in (
        buffer.getvalue(),
        pickle.dumps(payload(trap), protocol=2),
        pickle.dumps(payload(trap), protocol=5),
    ):
        next(path for path in (folder / "objects").rglob("*") if path.is_file()).write_bytes(content)
        forge(folder, lambda metadata, index: None)
        with nothing_happens(trap.parent), pytest.raises(SucroseError):
            Snapshot(folder).read_object("0/state/leaf/0")


@pytest.mark.parametrize("is_legacy", [False, True], ids=["today", "before_1.6"])
def test_a_payload_in_a_single_file_does_not_run(tmp_path: Path, trap: Path, is_legacy: bool) -> None:
    torch.save(
        {"w": torch.ones(2), "p": payload(trap)}, tmp_path / "f.pt", _use_new_zipfile_serialization=not is_legacy
    )
    for options in ({}, {"map_location": "cpu"}, {"map_location": "meta"}, {"verify": False}):
        with nothing_happens(trap.parent), pytest.raises(UnsafeObjectError):
            sucrose.load(tmp_path / "f.pt", **options)


def test_a_payload_behind_a_plain_beginning_does_not_run(tmp_path: Path, trap: Path) -> None:
    """The fast interpreter hands over what it does not know, and the payload comes late."""
    pickled = pickle.dumps([{"a": list(range(1000))}, payload(trap)], protocol=2)
    layout = torch_zip.plan(
        [torch_zip.inline("archive/data.pkl", pickled), torch_zip.inline("archive/version", b"3\n")]
    )
    (tmp_path / "f.pt").write_bytes(layout.frame)
    with nothing_happens(trap.parent), pytest.raises(UnsafeObjectError):
        sucrose.load(tmp_path / "f.pt")


def test_a_payload_as_a_persistent_id_does_not_run(tmp_path: Path, trap: Path) -> None:
    """The name of a storage is any object in the pickle."""
    pickled = pickle.dumps(payload(trap), protocol=2)[:-1] + b"Q."
    layout = torch_zip.plan([torch_zip.inline("archive/data.pkl", pickled)])
    (tmp_path / "f.pt").write_bytes(layout.frame)
    with nothing_happens(trap.parent), pytest.raises(SucroseError):
        sucrose.load(tmp_path / "f.pt")


@pytest.mark.parametrize(
    "name", ["os\nsystem", "builtins\neval", "torch\nload", "torch.hub\nload", "sucrose\nload", "posix\nsystem"]
)
def test_no_function_that_could_do_harm_is_found_by_name(tmp_path: Path, trap: Path, name: str) -> None:
    pickled = f"\x80\x02c{name}\n".encode("latin1") + b"X\x01\x00\x00\x00x\x85R."
    layout = torch_zip.plan([torch_zip.inline("archive/data.pkl", pickled)])
    (tmp_path / "f.pt").write_bytes(layout.frame)
    with nothing_happens(trap.parent), pytest.raises(UnsafeObjectError):
        sucrose.load(tmp_path / "f.pt")

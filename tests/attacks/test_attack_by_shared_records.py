"""Metadata of distributed checkpoints in which few bytes stand for endless work: values in each other, or shared."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import metadata as records
from torch.distributed.checkpoint.filesystem import _StorageInfo

from sucrose.errors import CorruptionError
from sucrose.interchange.sources import open_source

MODULE = b"torch.distributed.checkpoint.metadata\n"


def doubled(times: int = 60) -> Any:
    """Short as a pickle, and longer than any memory as text."""
    value: Any = []
    for _ in range(times):
        value = [value, value]
    return value


def body(value: Any) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]


def filled_afterwards(metadata: records.Metadata, inner: list[Any]) -> bytes:
    """A pickle of `metadata`, in which `inner` gets a bomb when everything that counts its size is over."""
    both = pickle.dumps((inner, metadata), protocol=2)
    assert both.startswith(b"\x80\x02]q\x00")  # a list that is the first to have a number
    lone = both[: both.rindex(b"\x86")]
    number = (1 << 20).to_bytes(4, "little")
    return lone + b"r" + number + b"h\x00" + body(doubled()) + b"aj" + number + b"."


def refusal(tmp_path: Path, metadata: records.Metadata | bytes) -> str:
    """What is said of the folder, which is neither read for ever nor shown as a whole."""
    data = metadata if isinstance(metadata, bytes) else pickle.dumps(metadata)
    (tmp_path / ".metadata").write_bytes(data)
    with pytest.raises(CorruptionError) as caught:
        open_source(str(tmp_path)).tree()
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def tensor(**fields: Any) -> records.TensorStorageMetadata:
    given = {
        "properties": records.TensorProperties(torch.float32),
        "size": torch.Size([4]),
        "chunks": [records.ChunkStorageMetadata(torch.Size([0]), torch.Size([4]))],
        **fields,
    }
    return records.TensorStorageMetadata(**given)


def metadata_of(place: Any = None, record: Any = None, planner_data: Any = None) -> records.Metadata:
    return records.Metadata(
        state_dict_metadata={"w": tensor() if record is None else record},
        planner_data=planner_data,
        storage_data={records.MetadataIndex("w", [0]): _StorageInfo("data", 0, 100) if place is None else place},
    )


PLACES = {
    "a file": lambda bomb: {"place": _StorageInfo(bomb, 0, 100)},
    "an offset": lambda bomb: {"place": _StorageInfo("data", bomb, 100)},
    "a length": lambda bomb: {"place": _StorageInfo("data", 0, bomb)},
    "transforms": lambda bomb: {"place": _StorageInfo("data", 0, 100, bomb)},
    "keys": lambda bomb: {"planner_data": {"w": bomb}},
    "a key": lambda bomb: {"planner_data": {"w": ("w", bomb)}},
    "a shape": lambda bomb: {"record": tensor(size=bomb)},
    "a tensor": lambda bomb: {"record": bomb},
    "pieces": lambda bomb: {"record": tensor(chunks=bomb)},
    "offsets": lambda bomb: {"record": tensor(chunks=[records.ChunkStorageMetadata(bomb, torch.Size([4]))])},
    "a dtype": lambda bomb: {"record": tensor(properties=records.TensorProperties(bomb))},
}


@pytest.mark.parametrize("place", PLACES)
def test_no_message_shows_a_value_of_any_length(tmp_path: Path, place: str) -> None:
    inner: list[Any] = []
    refusal(tmp_path, filled_afterwards(metadata_of(**PLACES[place](inner)), inner))


def test_a_long_list_of_transforms_is_not_shown_as_a_whole(tmp_path: Path) -> None:
    given = metadata_of(_StorageInfo("data", 0, 100, ["x" * 1000] * 100_000))
    (tmp_path / ".metadata").write_bytes(pickle.dumps(given))
    with pytest.raises(Exception, match="went through") as caught:
        open_source(str(tmp_path)).read(["w"])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("state", ["a name", "an encoding"])
def test_an_unknown_memory_format_is_not_shown_as_a_whole(tmp_path: Path, state: str) -> None:
    if state == "a name":
        pickled = b"c" + MODULE + b"_MEM_FORMAT_ENCODING\n" + body(doubled(15)) + b"\x85R"
    else:
        fields = body(torch.float32) + body(torch.strided) + b"\x89" + body(doubled(15)) + b"\x89"
        pickled = b"c" + MODULE + b"TensorProperties\n)\x81(" + fields + b"tb"
    refusal(tmp_path, b"\x80\x02" + pickled + b".")


def test_keys_that_hold_the_same_keys_over_and_over_are_refused(tmp_path: Path) -> None:
    """A pickle names an object before it fills it, so that nobody can count beforehand what it will hold."""
    key = records.MetadataIndex("w")
    for _ in range(60):
        inner, key = key, records.MetadataIndex("w")
        object.__setattr__(key, "fqn", (inner, inner))
    refusal(tmp_path, b"\x80\x02}" + body(key) + b"K\x01s.")


def test_tensors_that_share_their_pieces_are_refused(tmp_path: Path) -> None:
    """A thousand names for a list of a thousand pieces would be a million of them."""
    pieces = [records.ChunkStorageMetadata(torch.Size([at]), torch.Size([1])) for at in range(4)]
    shared = {name: tensor(chunks=pieces) for name in ("w", "v")}
    assert "one list of pieces" in refusal(tmp_path, records.Metadata(state_dict_metadata=shared, storage_data={}))


@pytest.mark.parametrize("key", ["k" * 100_000, 1 << 20_000], ids=["text", "a number"])
def test_keys_that_are_longer_than_names_are_refused(tmp_path: Path, key: str | int) -> None:
    assert "too large" in refusal(tmp_path, metadata_of(planner_data={"w": (key,) * 200}))


@pytest.mark.parametrize("attribute", ["__getitem__", "__len__", "__hash__"])
def test_a_pickle_does_not_say_what_its_records_do(tmp_path: Path, attribute: str) -> None:
    """With a new item for every number, one of them would be a sequence without an end."""
    state = b"N}" + body(attribute) + b"c" + MODULE + b"StorageMeta\ns\x86b"
    endless = records.ChunkStorageMetadata(torch.Size([0]), torch.Size([4]))
    metadata = body(metadata_of(record=tensor(size=endless)))
    pickled = b"\x80\x02c" + MODULE + b"ChunkStorageMetadata\n" + state + metadata + b"."
    assert "may not set" in refusal(tmp_path, pickled)

"""Folders of `torch.distributed.checkpoint` from strangers: a pickle says where everything lies."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import metadata as records
from torch.distributed.checkpoint.filesystem import _StorageInfo

from sucrose.errors import CorruptionError
from sucrose.interchange.dcp_metadata import read_metadata
from sucrose.interchange.sources import open_source


def stored(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


PIECE = stored(torch.ones(4))
VALUE = stored([1, 2])


def tensor_of(shape: list[int], *pieces: tuple[list[int], list[int]]) -> records.TensorStorageMetadata:
    return records.TensorStorageMetadata(
        properties=records.TensorProperties(dtype=torch.float32),
        size=torch.Size(shape),
        chunks=[
            records.ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=torch.Size(sizes))
            for offsets, sizes in pieces
        ],
    )


def folder_with(tmp_path: Path, metadata: object, **files: bytes) -> str:
    folder = tmp_path / "dcp"
    folder.mkdir()
    (folder / ".metadata").write_bytes(metadata if isinstance(metadata, bytes) else pickle.dumps(metadata))
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return str(folder)


def one_tensor(place: Any = None, **fields: Any) -> records.Metadata:
    place = _StorageInfo("data", 0, len(PIECE)) if place is None else place
    return records.Metadata(
        **{
            "state_dict_metadata": {"w": tensor_of([4], ([0], [4]))},
            "storage_data": {records.MetadataIndex("w", [0]): place},
            **fields,
        }
    )


def test_a_folder_as_torch_writes_it_is_read(tmp_path: Path) -> None:
    source = open_source(folder_with(tmp_path, one_tensor(), data=PIECE))
    assert list(source.entries()) == ["w"]
    assert source.read(["w"])[0].tolist() == [1, 1, 1, 1]


CLASSES = [
    "pathlib PurePosixPath",
    "torch.distributed.checkpoint.metadata MetadataIndex",
    "torch.distributed.checkpoint.metadata Metadata",
    "torch.distributed.checkpoint.filesystem _StorageInfo",
    "torch.distributed.checkpoint.metadata _MEM_FORMAT_ENCODING",
    "torch.serialization _get_layout",
]


def test_the_pickle_changes_no_class_of_the_program(tmp_path: Path) -> None:
    """BUILD on a class sets attributes of it: with other `parts` of paths all checks of names would pass."""
    attributes = b"N}X\x05\x00\x00\x00partsX\x01\x00\x00\x00as\x86b."
    for number, name in enumerate(CLASSES):
        (tmp_path / str(number)).mkdir()
        pickled = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n" + attributes
        (tmp_path / str(number) / ".metadata").write_bytes(pickled)
    program = f"""
import importlib
from sucrose.errors import CorruptionError
from sucrose.interchange.dcp_metadata import read_metadata
for number, name in enumerate({CLASSES!r}):
    module, _, kind = name.partition(" ")
    found = getattr(importlib.import_module(module), kind)
    before = dict(vars(found))
    try:
        read_metadata({str(tmp_path)!r} + f"/{{number}}/.metadata")
    except CorruptionError:
        print(name, dict(vars(found)) == before)
"""
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.splitlines() == [f"{name} True" for name in CLASSES]


@pytest.mark.parametrize("name", [".metadata", "data"])
def test_links_and_pipes_are_not_followed(tmp_path: Path, name: str) -> None:
    folder = folder_with(tmp_path, one_tensor(), data=PIECE)
    os.rename(f"{folder}/{name}", tmp_path / "outside")
    os.symlink(tmp_path / "outside", f"{folder}/{name}")
    with pytest.raises(CorruptionError, match="symbolic link"):
        open_source(folder).read(["w"])
    if name == "data":  # without one the folder is no checkpoint
        os.unlink(f"{folder}/{name}")
        os.mkfifo(f"{folder}/{name}")
        with pytest.raises(CorruptionError, match="no regular file"):
            open_source(folder).read(["w"])


@pytest.mark.parametrize(
    "place",
    [
        _StorageInfo("../outside", 0, len(PIECE)),
        _StorageInfo("/etc/passwd", 0, 10),
        _StorageInfo("data", 0, 1 << 60),
        _StorageInfo("data", -1, len(PIECE)),
        _StorageInfo("data", "0", len(PIECE)),  # type: ignore[arg-type]
        _StorageInfo(7, 0, len(PIECE)),  # type: ignore[arg-type]
        _StorageInfo("data\0", 0, len(PIECE)),
        torch.Size([1]),
    ],
    ids=["above", "absolute", "too long", "negative", "text", "number", "zero byte", "no place"],
)
def test_places_that_cannot_be_are_refused(tmp_path: Path, place: Any) -> None:
    (tmp_path / "outside").write_bytes(PIECE)
    folder = folder_with(tmp_path, one_tensor(place), data=PIECE)
    with pytest.raises(CorruptionError):
        open_source(folder).read(["w"])


SENSELESS: dict[str, dict[str, Any]] = {
    "records are no dict": {"state_dict_metadata": [1]},
    "a name is no text": {"state_dict_metadata": {1: tensor_of([4], ([0], [4]))}},
    "a record is none": {"state_dict_metadata": {"w": torch.float32}},
    "places are no dict": {"storage_data": [1]},
    "no places": {"storage_data": None},
    "a shape is none": {"state_dict_metadata": {"w": records.TensorStorageMetadata(records.TensorProperties(), 4, [])}},  # type: ignore[arg-type]
    "a dtype is none": {
        "state_dict_metadata": {
            "w": records.TensorStorageMetadata(records.TensorProperties("f"), torch.Size([4]), [])  # type: ignore[arg-type]
        }
    },
    "no properties": {"state_dict_metadata": {"w": records.TensorStorageMetadata(None, torch.Size([4]), [])}},  # type: ignore[arg-type]
    "a huge tensor without pieces": {"state_dict_metadata": {"w": tensor_of([1 << 40])}},
    "a huge tensor of a small piece": {"state_dict_metadata": {"w": tensor_of([1 << 40], ([0], [1 << 40]))}},
    "pieces that overlap": {
        "state_dict_metadata": {"w": tensor_of([8], ([0], [4]), ([2], [4]))},
        "storage_data": {
            records.MetadataIndex("w", [0]): _StorageInfo("data", 0, len(PIECE)),
            records.MetadataIndex("w", [2]): _StorageInfo("data", len(PIECE), len(PIECE)),
        },
    },
    "keys without end": {"planner_data": {"w": tuple("a" * 5000)}},
    "keys that are none": {"planner_data": {"w": (None,)}},
}


@pytest.mark.parametrize("what", SENSELESS)
def test_metadata_that_makes_no_sense_is_refused(tmp_path: Path, what: str) -> None:
    folder = folder_with(tmp_path, one_tensor(**SENSELESS[what]), data=PIECE + PIECE)
    with pytest.raises(CorruptionError):
        open_source(folder).tree()


def test_a_file_does_not_yield_more_than_it_has(tmp_path: Path) -> None:
    """A thousand names for the same bytes would be a thousand objects in memory."""
    names = [f"value_{number}" for number in range(1000)]
    metadata = records.Metadata(
        state_dict_metadata={name: records.BytesStorageMetadata() for name in names},
        storage_data={records.MetadataIndex(name): _StorageInfo("data", 0, len(VALUE)) for name in names},
    )
    with pytest.raises(CorruptionError, match="overlap"):
        open_source(folder_with(tmp_path, metadata, data=VALUE)).entries()


def test_the_metadata_is_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".metadata")
    with pytest.raises(CorruptionError, match="no regular file"):
        read_metadata(str(tmp_path / ".metadata"))

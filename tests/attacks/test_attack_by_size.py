"""Sizes, shapes and ranges that are not true: nothing is allocated by what a file claims, and nothing is read twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from forged_snapshots import forge, write_index_line
from hypothesis import given, settings
from hypothesis import strategies as st

from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError, SucroseError
from sucrose.snapshot import tensors
from sucrose.snapshot.tiling import tiles

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = "data/0_0.safetensors"
MANY_BYTES = 1 << 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Snapshot.take(tmp_path / "s", {"state": StateDict(weight=torch.ones(6), other=torch.zeros(2, dtype=torch.int16))})
    return tmp_path / "s"


@pytest.fixture
def allocated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of all tensors that a restore makes."""
    sizes: list[int] = []
    real = torch.empty

    def noting(shape: Any, **options: Any) -> torch.Tensor:
        dtype = options.get("dtype", torch.float32)
        sizes.append(tensors.dense_nbytes(dtype, list(shape)))
        assert sizes[-1] < MANY_BYTES, "allocates what a file claims"
        return real(shape, **options)

    monkeypatch.setattr(tensors.torch, "empty", noting)
    return sizes


def refused(folder: Path, key: str = "0/state/weight") -> None:
    for read in (
        lambda: Snapshot(folder).read_object(key),
        lambda: Snapshot(folder).get_state_dict_for_key("state"),
        lambda: Snapshot(folder).get_state_dict_for_key("state", verify=False),
    ):
        with pytest.raises(CorruptionError):
            read()


def edited(folder: Path, **change: Any) -> None:
    forge(folder, lambda metadata, index: metadata["manifest"]["0/state/weight"].update(change))


CLAIMS: list[dict[str, Any]] = [
    {"shape": [1 << 40], "byte_range": [4096, 4096 + (4 << 40)]},
    {"shape": [1 << 40], "byte_range": None},
    {"shape": [1 << 61, 4], "byte_range": None},
    {"shape": [1 << 32, 1 << 32], "byte_range": None},
    {"shape": [1 << 31] * 64, "byte_range": None},
    {"shape": [(1 << 62) - 1], "byte_range": [0, 4 * ((1 << 62) - 1)]},
    {"shape": [10**30], "byte_range": [0, 4 * 10**30]},
    {"byte_range": [(1 << 63) - 24, 1 << 63]},
    {"byte_range": [(1 << 64) - 24, 1 << 64]},
    {"byte_range": [4112, 4136]},
    {"byte_range": [-24, 0]},
    {"byte_range": [4120, 4096]},
    {"shape": [-6]},
    {"shape": [-2, -3]},
    {"shape": [6] * 65},
    {"dtype": "torch.float64"},
    {"dtype": "torch.qint32"},
    {"dtype": "torch.int1"},
    {"dtype": "torch.Tensor"},
    {"dtype": "os.system"},
    {"dtype": ""},
]


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_a_claim_that_its_file_does_not_bear_out_is_refused_before_memory_is_taken(
    folder: Path, allocated: list[int], claim: dict[str, Any]
) -> None:
    edited(folder, **claim)
    refused(folder)


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_without_an_index_the_size_of_the_file_itself_counts(
    folder: Path, allocated: list[int], claim: dict[str, Any]
) -> None:
    """As in snapshots of torchsnapshot, which have none."""

    def renamed(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        for key in ("weight", "other"):
            metadata["manifest"][f"0/state/{key}"]["location"] = "batched/0"
        metadata["manifest"]["0/state/weight"].update(claim)

    (folder / "batched").mkdir()
    (folder / DATA).rename(folder / "batched" / "0")
    forge(folder, renamed)
    (folder / ".snapshot_index").unlink()
    refused(folder)


def test_ranges_that_overlap_do_not_make_more_of_a_file_than_there_is(folder: Path, allocated: list[int]) -> None:
    def overlap(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        manifest = metadata["manifest"]
        for number in range(500):
            nbytes = 4000 - 4 * number
            manifest[f"0/state/k{number}"] = {
                **manifest["0/state/weight"], "dtype": "torch.uint8", "shape": [nbytes], "byte_range": [0, nbytes]
            }  # fmt: skip
        manifest["0/state"]["keys"] += [f"k{number}" for number in range(500)]

    forge(folder, overlap)
    with pytest.raises(CorruptionError, match="ranges overlap"):
        Snapshot(folder).get_state_dict_for_key("state")
    assert sum(allocated) < 10_000


def test_tied_tensors_are_no_attack(tmp_path: Path) -> None:
    tied = torch.arange(6.0)
    state = StateDict(**{f"k{number}": tied for number in range(50)})
    Snapshot.take(tmp_path / "s", {"state": state})
    found = Snapshot(tmp_path / "s").get_state_dict_for_key("state")
    assert all(torch.equal(value, tied) for value in found.values())


def in_parts(folder: Path, parts: list[tuple[list[int], list[int]]], shape: list[int]) -> None:
    def change(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        tensor = metadata["manifest"]["0/state/weight"]
        chunks = []
        for offsets, sizes in parts:
            nbytes = 4 * torch.Size(sizes).numel()
            begin = min(4096, 4120 - min(24, nbytes))
            part = {**tensor, "shape": sizes, "byte_range": [begin, begin + nbytes]}
            chunks.append({"offsets": offsets, "sizes": sizes, "tensor": part})
        metadata["manifest"]["0/state/weight"] = {
            "type": "ChunkedTensor", "dtype": "torch.float32", "shape": shape, "chunks": chunks, "replicated": False
        }  # fmt: skip

    forge(folder, change)


PARTS: dict[str, tuple[list[tuple[list[int], list[int]]], list[int]]] = {
    "overlap with a hole": ([([0], [2]), ([0], [2]), ([4], [2])], [6]),
    "the same part twice": ([([0], [3]), ([0], [3])], [6]),
    "overlap in two dimensions": ([([0, 0], [1, 2]), ([0, 1], [2, 1]), ([1, 0], [1, 2])], [2, 3]),
    "outside": ([([0], [3]), ([4], [3])], [6]),
    "negative offset": ([([-1], [3]), ([2], [3])], [6]),
    "negative size": ([([0], [-3]), ([0], [9])], [6]),
    "a hole": ([([0], [3]), ([4], [2])], [6]),
    "none at all": ([], [6]),
    "other rank": ([([0, 0], [6, 1])], [6]),
    "sizes of another rank": ([([0], [6, 1])], [6]),
    "more than the file": ([([i], [1]) for i in range(5000)], [5000]),
    "split along many dimensions": ([([0] * 12, [1] * 12), ([1] * 12, [1] * 12)], [2] * 12),
}


@pytest.mark.parametrize("kind", PARTS)
def test_parts_that_are_no_whole_are_refused(folder: Path, allocated: list[int], kind: str) -> None:
    """A hole would be memory that nobody has written: whatever was there before."""
    parts, shape = PARTS[kind]
    in_parts(folder, parts, shape)
    with pytest.raises(CorruptionError):
        Snapshot(folder).read_object("0/state/weight")


def test_parts_in_any_order_make_a_whole() -> None:
    assert tiles([2, 3], [([1, 0], [1, 3]), ([0, 2], [1, 1]), ([0, 0], [1, 2])])
    assert tiles([0, 3], [([0, 0], [0, 3])])
    assert tiles([], [([], [])])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_boxes_are_a_whole_where_each_cell_is_in_one_of_them(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    boxes = []
    for _ in range(data.draw(st.integers(0, 5))):
        offsets = [data.draw(st.integers(0, length)) for length in shape]
        boxes.append((offsets, [data.draw(st.integers(0, n - at)) for at, n in zip(offsets, shape, strict=True)]))
    covered = torch.zeros(shape, dtype=torch.int)
    for offsets, sizes in boxes:
        region = covered
        for dim, (at, n) in enumerate(zip(offsets, sizes, strict=True)):
            region = region.narrow(dim, at, n)
        region += 1
    assert tiles(shape, boxes) == bool((covered == 1).all())


WRONG_INDEX: list[Callable[[dict[str, Any]], object]] = [
    lambda record: record.update(nbytes=1 << 62),
    lambda record: record.update(nbytes=-1),
    lambda record: record.update(nbytes=10**40),
    lambda record: record.update(nbytes=1e300),
    lambda record: record.update(digests=""),
    lambda record: record.update(digests="zz" * 16),
    lambda record: record.update(digests=record["digests"] * 1000),
    lambda record: record.update(nbytes=record["nbytes"] + (4 << 20), digests=record["digests"] * 2),
    lambda record: record.update(stored={"codec": "zstd", "sizes": [1 << 60]}),
    lambda record: record.update(stored={"codec": "zstd", "sizes": [0]}),
    lambda record: record.update(stored={"codec": "zstd", "sizes": [-5]}),
    lambda record: record.update(stored={"codec": "zstd", "sizes": []}),
    lambda record: record.update(stored={"codec": "zstd", "sizes": [4120], "groups": "3"}),
    lambda record: record.update(stored={"codec": "zstd", "sizes": [4120], "groups": "44"}),
    lambda record: record.update(stored={"codec": "lzma", "sizes": [4120]}),
]


@pytest.mark.parametrize("number", range(len(WRONG_INDEX)))
def test_an_index_with_numbers_that_cannot_be_is_refused(folder: Path, allocated: list[int], number: int) -> None:
    index = json.loads((folder / ".snapshot_index").read_bytes().partition(b"\n")[0])
    index["format_version"] = 2
    WRONG_INDEX[number](index["files"][DATA])
    write_index_line(folder, json.dumps(index).encode())
    with pytest.raises(SucroseError):
        Snapshot(folder).get_state_dict_for_key("state")
    with pytest.raises(SucroseError):
        Snapshot(folder).restore({"state": StateDict(weight=torch.zeros(6))})


def test_a_million_ranks_are_not_looked_through_one_by_one(folder: Path) -> None:
    forge(folder, lambda metadata, index: metadata.update(world_size=10**15))
    with pytest.raises(CorruptionError, match="1000000000000000 ranks"):
        Snapshot(folder).read_object("5/state/weight")


@pytest.mark.parametrize("world_size", [0, -1, 1 << 64])
def test_a_snapshot_of_no_ranks_is_none(folder: Path, world_size: int) -> None:
    forge(folder, lambda metadata, index: metadata.update(world_size=world_size))
    refused(folder)


def test_containers_that_are_nested_too_deeply_are_refused(folder: Path) -> None:
    def nest(metadata: dict[str, Any], index: dict[str, Any]) -> None:
        path = "0/state/weight"
        for _ in range(2000):
            metadata["manifest"][path] = {"type": "list"}
            path += "/0"
        metadata["manifest"][path] = {"type": "list"}

    forge(folder, nest)
    refused(folder)

"""Pickles that run nothing forbidden and would still take the process down: by time, by memory, by the C stack."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

import sucrose
from sucrose.errors import CorruptionError, SucroseError, UnsafeObjectError
from sucrose.formats import torch_zip
from sucrose.formats.pickle_limits import check_pickle
from sucrose.interchange.dcp_metadata import read_metadata
from sucrose.snapshot.objects import load_object


def file_of(pickled: bytes, storage: bytes = bytes(16)) -> bytes:
    records = [torch_zip.inline("archive/data.pkl", pickled), torch_zip.inline("archive/data/0", storage)]
    return torch_zip.plan(records).frame


def body(value: Any) -> bytes:
    """The operations that make `value`, without the beginning and the end."""
    return pickle.dumps(value, protocol=2)[2:-1]


def doubled(times: int) -> Any:
    value: Any = ()
    for _ in range(times):
        value = (value, value)
    return value


DEEP = b")" + b"\x85" * 1_000_000  # () in a tuple in a tuple …
WIDE = body(doubled(60))
ONE = b"K\x01"
SET = b"c__builtin__\nset\n"
BOMBS = {
    "deep key": b"}" + DEEP + ONE + b"s",
    "wide key": b"}" + WIDE + ONE + b"s",
    "deep key among others": b"}(" + ONE + ONE + DEEP + ONE + b"u",
    "wide key among others": b"}(" + ONE + ONE + WIDE + ONE + b"u",
    "deep element of a set": SET + b"](" + DEEP + b"e\x85R",
    "wide element of a set": SET + b"](" + WIDE + b"e\x85R",
    "wide key of an ordered dict": b"ccollections\nOrderedDict\n]](" + WIDE + ONE + b"ea\x85R",
    "wide element of a counter": b"ccollections\nCounter\n](" + WIDE + b"e\x85R",
    "wide name of a storage": b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    + WIDE
    + b"X\x03\x00\x00\x00cpuK\x04tQ",
    "deep name of a storage": b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    + DEEP
    + b"X\x03\x00\x00\x00cpuK\x04tQ",
    "the same wide key over and over": b"}" + body(tuple(range(9000))) + b"q\xffK\x01s" + b"h\xffK\x01s" * 9000,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_keys_that_would_be_hashed_for_hours_are_refused(tmp_path: Path, kind: str) -> None:
    content = file_of(b"\x80\x02" + BOMBS[kind] + b".")
    (tmp_path / "f.pt").write_bytes(content)
    with pytest.raises(CorruptionError, match=r"keys that would take hours|inside each other|name a storage"):
        sucrose.load(tmp_path / "f.pt")
    with pytest.raises(CorruptionError):
        load_object(content, key="key", path="file", allow_pickle=False)


STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
HOOKS = b"\x89ccollections\nOrderedDict\n)RtR"


def tensor(offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    return TENSOR + STORAGE + body(offset) + body(size) + body(stride) + HOOKS


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (1 << 40,), (1,)), (0, (5,), (1,)), (1 << 60, (1,), (1,)), (0, (2, 2), (1 << 61, 1)), (1, (4,), (1,)),
        (0, (1 << 62, 1 << 62), (1 << 62, 1)), (-1, (4,), (1,)), (0, (4,), (-1,)), (0, (-4,), (1,)), (0, (4,), (1, 1)),
        (10**30, (1,), (1,)), (0, (10**30,), (1,)), (0, (1 << 40,), (4,)),
    ],
)  # fmt: skip
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(
    tmp_path: Path, offset: int, size: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    """Torch would make the storage larger; the bytes would be of no file."""
    (tmp_path / "f.pt").write_bytes(file_of(b"\x80\x02" + tensor(offset, size, stride) + b"."))
    with pytest.raises(CorruptionError):
        sucrose.load(tmp_path / "f.pt")


def test_the_same_tensor_within_its_storage_is_read(tmp_path: Path) -> None:
    content = file_of(b"\x80\x02" + tensor(1, (3,), (1,)) + b".", struct.pack("<4f", 1, 2, 3, 4))
    (tmp_path / "f.pt").write_bytes(content)
    assert sucrose.load(tmp_path / "f.pt").tolist() == [2.0, 3.0, 4.0]


CALLS = {
    "bytes without end": b"c__builtin__\nbytearray\n\x8a\x08" + struct.pack("<q", 1 << 62) + b"\x85R",
    "a tensor without end": b"ctorch\nTensor\n\x8a\x08" + struct.pack("<q", 1 << 60) + b"\x85R",
    "a storage without end": b"ctorch.storage\nUntypedStorage\n\x8a\x08" + struct.pack("<q", 1 << 62) + b"\x85R",
    "a name of a memo that is not there": b"h\x07",
    "nothing on the stack": b"R",
    "a mark that is not there": b"t",
    "text that is longer than the file": b"X\xff\xff\xff\x7fabc",
    "a memo beyond all": b"Nr\xff\xff\xff\xff",
}


@pytest.mark.parametrize("kind", CALLS)
def test_calls_and_numbers_that_make_no_sense_are_errors_of_the_file(tmp_path: Path, kind: str) -> None:
    content = file_of(b"\x80\x02" + CALLS[kind] + (b"." if kind != "a memo beyond all" else b"h\x01."))
    (tmp_path / "f.pt").write_bytes(content)
    with pytest.raises((CorruptionError, UnsafeObjectError)):
        sucrose.load(tmp_path / "f.pt")
    with pytest.raises((CorruptionError, UnsafeObjectError)):
        load_object(content, key="key", path="file", allow_pickle=False)


def test_pickles_of_states_pass() -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(20)))
    shared = tuple(range(100))
    for value in (
        model.state_dict(), torch.optim.Adam(model.parameters()).state_dict(), {(1, (2, 3)): [shared] * 1000},
        {"set": {(n, n) for n in range(1000)}}, OrderedDict(a=1), [[[[]]]], {shared: shared},
    ):  # fmt: skip
        check_pickle(pickle.dumps(value, protocol=2), "file")


def test_what_is_put_into_a_number_spoils_no_later_check() -> None:
    for operations in (
        b"](NNe" + b"NNa" * 1000,
        b"N" + b"NNs" * 1000,
        b"N(" + b"N" * 1000 + b"e",
        b"(NN" * 500 + b"u" * 500,
    ):
        check_pickle(b"\x80\x02" + operations + b".", "file")
    check_pickle(pickle.dumps([{number: number for number in range(100_000)}], protocol=2), "file")


def test_an_operation_that_no_restricted_unpickler_knows_is_left_to_it() -> None:
    check_pickle(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.", "file")
    with pytest.raises(SucroseError):
        load_object(pickle.dumps([1], protocol=5)[2:], key="key", path="file", allow_pickle=False)


DCP_BOMBS = {
    "deep": b"\x80\x02}" + DEEP + ONE + b"s.",
    "wide": b"\x80\x02}" + WIDE + ONE + b"s.",
    "wide in a set": b"\x80\x04\x8f(" + WIDE + b"\x90.",
    "wide in a frozen set": b"\x80\x04(" + WIDE + b"\x91.",
    "behind an operation that only Python knows": b"\x80\x02N0}" + WIDE + ONE + b"s.",
}


@pytest.mark.parametrize("kind", DCP_BOMBS)
def test_the_metadata_of_a_distributed_checkpoint_is_held_to_the_same(tmp_path: Path, kind: str) -> None:
    """Python's own unpickler reads it, with a list of what it may find."""
    (tmp_path / ".metadata").write_bytes(DCP_BOMBS[kind])
    with pytest.raises(CorruptionError):
        read_metadata(str(tmp_path / ".metadata"))


def test_pickles_of_every_protocol_are_understood() -> None:
    values = [{"a": [1, 2.5, None, True, b"x", 2**100, "y" * 300]}, {(1, 2), (3,)}, frozenset({1}), torch.Size([1])]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        check_pickle(pickle.dumps(values, protocol=protocol), "file", is_full=True)

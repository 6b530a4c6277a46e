"""`torch.save` files that are bombs: records that inflate, overlap, or claim what is not there."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from forged_snapshots import forge

import sucrose
from sucrose import Snapshot, StateDict
from sucrose.errors import CorruptionError
from sucrose.formats import torch_zip as layout
from sucrose.scenarios.checkpoints.inspection import inspect
from sucrose.snapshot.objects import load_object

if TYPE_CHECKING:
    from collections.abc import Callable

NBYTES = 1 << 20


def saved() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(NBYTES, dtype=torch.uint8), "v": torch.ones(4)}, buffer)
    return buffer.getvalue()


def deflated(content: bytes) -> bytes:
    """The same records, compressed: a megabyte of zeros in a kilobyte, and a terabyte in a gigabyte."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in source.namelist():
            packed.writestr(name, source.read(name))
    return target.getvalue()


def with_central(content: bytes, change: Callable[[list[Any]], object], *, record: str = "data/0") -> bytes:
    """The directory's entry of one record with other fields."""
    result = bytearray(content)
    at = content.index(layout.CENTRAL_MAGIC)
    while result[at : at + 4] == layout.CENTRAL_MAGIC:
        fields = list(layout.CENTRAL_HEADER.unpack_from(result, at))
        name_nbytes, extra_nbytes, comment_nbytes = fields[10:13]
        name = bytes(result[at + layout.CENTRAL_HEADER.size :][:name_nbytes]).decode()
        if name.endswith(record):
            change(fields)
            layout.CENTRAL_HEADER.pack_into(result, at, *fields)
        at += layout.CENTRAL_HEADER.size + name_nbytes + extra_nbytes + comment_nbytes
    return bytes(result)


SIZE, STORED, OFFSET, METHOD, FLAGS = 9, 8, 16, 4, 3


def assign(**values: int) -> Callable[[list[Any]], None]:
    places = {"size": SIZE, "stored": STORED, "offset": OFFSET, "method": METHOD, "flags": FLAGS}

    def change(fields: list[Any]) -> None:
        for name, value in values.items():
            fields[places[name]] = value

    return change


ATTACKS: dict[str, Callable[[bytes], bytes]] = {
    "inflates": deflated,
    "inflates by another method": lambda c: with_central(c, assign(method=12)),
    "is encrypted": lambda c: with_central(c, assign(flags=1)),
    "claims a size": lambda c: with_central(c, assign(size=0xFFFFFFF0, stored=0xFFFFFFF0)),
    "claims a size beside another": lambda c: with_central(c, assign(size=0xFFFFFFF0)),
    "claims a size without telling": lambda c: with_central(c, assign(size=0xFFFFFFFF, stored=0xFFFFFFFF)),
    "lies over another record": lambda c: with_central(c, assign(offset=0), record="data/1"),
    "lies behind the end": lambda c: with_central(c, assign(offset=len(c) + 10), record="data/1"),
    "lies in the directory": lambda c: with_central(c, assign(offset=c.index(layout.CENTRAL_MAGIC)), record="data/1"),
    "has more records than there is room for": lambda c: c[:-12] + struct.pack("<H", 60000) + c[-10:],
    "has its directory elsewhere": lambda c: c[:-6] + struct.pack("<I", 0) + c[-2:],
    "has a directory of gigabytes": lambda c: c[:-10] + struct.pack("<I", 0xFFFFFFF0) + c[-6:],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_single_file_that_is_a_bomb_is_refused(tmp_path: Path, attack: str) -> None:
    (tmp_path / "f.pt").write_bytes(ATTACKS[attack](saved()))
    for verify in (True, False):
        with pytest.raises(CorruptionError):
            sucrose.load(tmp_path / "f.pt", verify=verify)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_object_of_a_snapshot_that_is_a_bomb_is_refused_before_torch_sees_it(
    tmp_path: Path, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Snapshot.take(tmp_path / "s", {"state": StateDict(leaf=(1,))})
    (tmp_path / "s" / "objects/0/state/leaf").write_bytes(ATTACKS[attack](saved()))
    forge(tmp_path / "s", lambda metadata, index: None)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch would inflate it"))
    for allow_pickle in (False, True):
        with pytest.raises(CorruptionError) as caught:
            Snapshot(tmp_path / "s").read_object("0/state/leaf", allow_pickle=allow_pickle)
        assert str(tmp_path / "s" / "objects/0/state/leaf") in str(caught.value)


def test_what_torch_has_really_saved_is_no_bomb() -> None:
    found = load_object(saved(), key="key", path="file", allow_pickle=False)
    assert found["w"].numel() == NBYTES


def test_a_record_of_a_scenario_that_is_a_bomb_is_refused(tmp_path: Path) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data.pkl", b"\x80\x02}.")
        packed.writestr("archive/sucrose.json", b" " * (64 << 20))
    (tmp_path / "e1.pt").write_bytes(target.getvalue())
    with pytest.raises(CorruptionError):
        inspect(str(tmp_path / "e1.pt"), is_snapshot=False)


def test_a_file_of_old_torch_that_claims_a_terabyte_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(4)}, buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    claimed = content.replace(b"K\x04Ntq", b"\x8a\x06\x00\x00\x00\x00\x00\x01Ntq")
    assert claimed != content
    (tmp_path / "f.pt").write_bytes(claimed)
    with pytest.raises((CorruptionError, OSError)):
        sucrose.load(tmp_path / "f.pt")

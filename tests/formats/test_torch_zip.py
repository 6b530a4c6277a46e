"""The zip container of torch files: what is written, and what a hostile file can do."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import struct
import subprocess
import zipfile
import zlib
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sucrose.errors import CorruptionError
from sucrose.formats import torch_zip
from sucrose.formats.torch_zip import Record, inline, plan
from sucrose.formats.torch_zip_directory import head_nbytes, locate, looks_like_zip, read_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sucrose.formats.torch_zip_directory import Member, ReadAt

pytestmark = pytest.mark.any_backend

GIB = 1 << 30


def build(contents: dict[str, bytes]) -> bytes:
    """A file with `contents`, half of them inline."""
    records = []
    outside = []
    for index, (name, content) in enumerate(contents.items()):
        if index % 2:
            records.append(inline(name, content))
        else:
            records.append(Record(name=name, nbytes=len(content), crc32=zlib.crc32(content)))
            outside.append(content)
    layout = plan(records)
    cuts = [0, *layout.cuts]
    parts = [layout.frame[a:b] + content for (a, b), content in zip(itertools.pairwise(cuts), outside, strict=True)]
    file = b"".join(parts) + layout.frame[cuts[-1] :]
    assert len(file) == layout.nbytes
    return file


def reader(file: bytes) -> ReadAt:
    return lambda offset, nbytes: file[offset : offset + nbytes]


def members_of(file: bytes) -> list[tuple[Member, int]]:
    read_at = reader(file)
    members = read_directory(read_at, len(file), "some.pt")
    return [(m, locate(m, read_at(m.header_offset, head_nbytes(m)), "some.pt")) for m in members]


def contents_of(file: bytes) -> dict[str, bytes]:
    return {m.name: file[offset : offset + m.nbytes] for m, offset in members_of(file)}


RECORDS = {"a/data.pkl": b"pickle", "a/data/0": b"", "a/data/1": bytes(64), "a/data/2": os.urandom(5000), "a/v": b"3\n"}


def test_other_tools_find_every_record_intact(tmp_path: Path) -> None:
    file = build(RECORDS)
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == RECORDS
    if shutil.which("unzip"):
        (tmp_path / "f.zip").write_bytes(file)
        tested = subprocess.run(["unzip", "-t", tmp_path / "f.zip"], capture_output=True, text=True, check=False)
        assert tested.returncode == 0, tested.stdout + tested.stderr


names = st.text("abc/.é0", min_size=1, max_size=70).map(lambda name: "archive/" + name)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, st.binary(max_size=300), max_size=12))
def test_any_records_come_back_aligned(contents: dict[str, bytes]) -> None:
    file = build(contents)
    assert contents_of(file) == contents
    for member, offset in members_of(file):
        assert offset == member.offset, "the padding is the one to expect"
        assert offset % torch_zip.ALIGNMENT == 0
        assert zlib.crc32(file[offset : offset + member.nbytes]) == member.crc32
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        assert archive.testzip() is None


def test_more_records_than_the_old_end_record_can_count() -> None:
    contents = {f"archive/data/{index}": b"%d" % index for index in range(70_000)}
    file = build(contents)
    assert contents_of(file) == contents
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        assert len(archive.namelist()) == 70_000
        assert archive.read("archive/data/69999") == b"69999"


class SparseFile:
    """A planned file of any size: zeros where the records without content are."""

    def __init__(self, records: Sequence[Record]) -> None:
        layout = plan(records)
        self.nbytes = layout.nbytes
        self._parts: list[tuple[int, bytes]] = []
        offset = start = 0
        outside = [record.nbytes for record in records if record.content is None]
        for cut, nbytes in zip(layout.cuts, outside, strict=True):
            self._parts.append((offset, layout.frame[start:cut]))
            offset += cut - start + nbytes
            start = cut
        self._parts.append((offset, layout.frame[start:]))

    def read_at(self, offset: int, nbytes: int) -> bytes:
        nbytes = max(0, min(nbytes, self.nbytes - offset))
        data = bytearray(nbytes)
        for begin, part in self._parts:
            low, high = max(offset, begin), min(offset + nbytes, begin + len(part))
            if low < high:
                data[low - offset : high - offset] = part[low - begin : high - begin]
        return bytes(data)

    def write(self, path: Path) -> None:
        with path.open("wb") as file:
            for begin, part in self._parts:
                file.seek(begin)
                file.write(part)


LARGE = [
    inline("archive/data.pkl", b"pickle"),
    Record(name="archive/data/0", nbytes=5 * GIB, crc32=1),
    Record(name="archive/data/1", nbytes=100, crc32=2),
    Record(name="archive/data/2", nbytes=0xFFFFFFFF, crc32=3),
    Record(name="archive/data/3", nbytes=7, crc32=4),
    inline("archive/version", b"3\n"),
]


def test_sizes_and_offsets_beyond_32_bits_come_back() -> None:
    file = SparseFile(LARGE)
    members = read_directory(file.read_at, file.nbytes, "large.pt")
    assert [(m.name, m.nbytes, m.crc32) for m in members] == [(r.name, r.nbytes, r.crc32) for r in LARGE]
    assert members[-1].offset > 9 * GIB
    for member in members:
        head = file.read_at(member.header_offset, head_nbytes(member))
        assert locate(member, head, "large.pt") == member.offset
        assert member.offset % torch_zip.ALIGNMENT == 0


def test_other_tools_and_torch_read_sizes_and_offsets_beyond_32_bits(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    file = SparseFile(LARGE)
    file.write(path)
    with zipfile.ZipFile(path) as archive:
        assert [(i.filename, i.file_size) for i in archive.infolist()] == [(r.name, r.nbytes) for r in LARGE]
        assert archive.read("archive/version") == b"3\n"
    torch_reader = torch._C.PyTorchFileReader(str(path))
    members = read_directory(file.read_at, file.nbytes, "large.pt")
    for member in members:
        assert torch_reader.get_record_offset(member.name.removeprefix("archive/")) == member.offset
    assert torch_reader.get_record("version") == b"3\n"


def test_files_of_torch_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(1000.0), "b": torch.empty(0), "c": torch.ones(3)}, tmp_path / "t.pt")
    file = (tmp_path / "t.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "t.pt") as archive:
        assert contents_of(file) == {name: archive.read(name) for name in archive.namelist()}
    assert all(offset == member.offset for member, offset in members_of(file))


def test_stored_records_of_other_tools_are_found_though_their_padding_differs() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"a comment with PK\x05\x06 in it"
        archive.writestr("a/one", b"first")
        padded = zipfile.ZipInfo("a/two")
        padded.extra = struct.pack("<2H", 0x4246, 200) + bytes(200)
        archive.writestr(padded, b"second")
    file = buffer.getvalue()
    assert contents_of(file) == {"a/one": b"first", "a/two": b"second"}
    assert any(offset != member.offset for member, offset in members_of(file))


def refusal(file: bytes) -> CorruptionError:
    with pytest.raises(CorruptionError) as raised:
        members_of(file)
    assert raised.value.path == "some.pt"
    assert "some.pt" in str(raised.value)
    return raised.value


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_compressed_records_are_refused_by_name(compression: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("a/data.pkl", bytes(1000))
    error = refusal(buffer.getvalue())
    assert error.key == "a/data.pkl"
    assert error.offset is not None
    assert "compressed" in str(error)


def test_two_records_of_one_name_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/x", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/x", b"2")
    assert refusal(buffer.getvalue()).key == "a/x"


FILE = build(RECORDS)
CENTRAL = FILE.index(torch_zip.CENTRAL_MAGIC)
SECOND = FILE.index(torch_zip.CENTRAL_MAGIC, CENTRAL + 1)
END = len(FILE) - torch_zip.END.size


def patched(offset: int, fields: str, *values: int) -> bytes:
    file = bytearray(FILE)
    struct.pack_into("<" + fields, file, offset, *values)
    return bytes(file)


ATTACKS = {
    "an encrypted record": patched(CENTRAL + 8, "H", 1),
    "a record encrypted in its local header only": patched(6, "H", 1),
    "a record compressed in its local header only": patched(8, "H", 8),
    "stored in fewer bytes than it has": patched(CENTRAL + 20, "I", 3),
    "a record larger than the file": patched(CENTRAL + 20, "II", 1 << 30, 1 << 30),
    "a record that runs into the next one": patched(CENTRAL + 20, "II", 300, 300),
    "two records in one place": patched(SECOND + 42, "I", 0),
    "a record behind the directory": patched(CENTRAL + 42, "I", len(FILE) - 10),
    "a record that begins in the middle of another": patched(SECOND + 42, "I", 66),
    "a local header with another name": patched(32, "B", 0x7A),
    "a local header with a longer name": patched(26, "H", 400),
    "a local header with an extra field beyond the next record": patched(28, "H", 60_000),
    "a local header with another checksum": patched(14, "I", 77),
    "a local header with another size": patched(22, "I", 5),
    "a local header with another magic": patched(0, "I", 77),
    "a zip64 size without its field": patched(CENTRAL + 20, "II", 0xFFFFFFFF, 0xFFFFFFFF),
    "a zip64 offset without its field": patched(CENTRAL + 42, "I", 0xFFFFFFFF),
    "a directory entry with another magic": patched(SECOND, "I", 77),
    "a name longer than the directory": patched(CENTRAL + 28, "H", 60_000),
    "a name that is not UTF-8": patched(CENTRAL + 46, "H", 0xFFFF),
    "more records than entries": patched(END + 8, "HH", 6, 6),
    "fewer records than entries": patched(END + 8, "HH", 4, 4),
    "as many records as fit in no file": patched(END + 8, "HH", 60_000, 60_000),
    "records on several disks": patched(END + 4, "HH", 1, 1),
    "a directory behind the end": patched(END + 12, "II", 100, len(FILE)),
    "a directory that reaches over the end": patched(END + 12, "I", len(FILE)),
    "a directory somewhere else": patched(END + 16, "I", 3),
    "a zip64 count without its record": patched(END + 8, "HH", 0xFFFF, 0xFFFF),
    "a zip64 directory without its record": patched(END + 16, "I", 0xFFFFFFFF),
    "something behind the end": FILE + b"x",
    "something before the beginning": b"x" + FILE,
    "no end": FILE[: END - 1],
    "nothing but an end of zip64": bytes(END) + torch_zip.END.pack(b"PK\x05\x06", 0, 0, 65535, 65535, 0, 0, 0),
}


@pytest.mark.parametrize("file", ATTACKS.values(), ids=ATTACKS)
def test_a_hostile_file_is_refused(file: bytes) -> None:
    refusal(file)


def test_a_zip64_end_record_that_lies_is_refused() -> None:
    records = [inline(f"a/{index}", b"") for index in range(70_000)]
    file = bytearray(plan(records).frame)
    end64 = len(file) - torch_zip.END.size - torch_zip.END64_LOCATOR.size - torch_zip.END64.size
    assert contents_of(bytes(file))
    for offset, fields, value in [
        (end64, "I", 77),  # its magic
        (end64 + 16, "I", 3),  # its disk
        (end64 + 32, "Q", 80_000),  # the number of records
        (end64 + 32, "Q", 1 << 63),
        (end64 + 40, "Q", 1 << 63),  # the length of the directory
        (end64 + 48, "Q", 1 << 63),  # where it begins
        (end64 + 56 + 8, "Q", 1 << 63),  # where the locator says that it is
        (end64 + 56 + 8, "Q", end64 + 60),
        (end64 + 56, "I", 77),  # the locator's magic
    ]:
        broken = bytearray(file)
        struct.pack_into("<" + fields, broken, offset, value)
        refusal(bytes(broken))


def test_a_file_cut_off_anywhere_is_refused() -> None:
    for nbytes in range(0, len(FILE), 13):
        refusal(FILE[:nbytes])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_either_refused_or_leaves_every_record_inside_the_file(data: st.DataObject) -> None:
    file = bytearray(FILE)
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(CENTRAL, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = members_of(bytes(file))
    except CorruptionError:
        return
    spans = sorted((member.header_offset, offset + member.nbytes) for member, offset in found)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert all(begin >= 0 and end <= len(file) for begin, end in spans)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_noise_is_refused(noise: bytes, with_end: bool) -> None:
    end = torch_zip.END.pack(torch_zip.END_MAGIC, 0, 0, 2, 2, 92, 0, 0)
    refusal(noise + end if with_end else noise)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda file: file, True),
        (lambda file: b"XX" + file[2:], True),
        (lambda file: file[:-30], True),
        (lambda file: b"XX" + file[2:-30], False),
        (lambda file: b"", False),
        (lambda file: b"PK", False),
    ],
)
def test_a_zip_file_is_known_by_either_end(change: Callable[[bytes], bytes], expected: bool) -> None:
    file = change(FILE)
    assert looks_like_zip(reader(file), len(file)) is expected

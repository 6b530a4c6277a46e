"""The zip container of `torch.save`: finding the records of a file that may be hostile or torn.

Everything is checked before anyone relies on it: each number against the file's length, the
central directory against the local headers, each record against its neighbours.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from sucrose.errors import CorruptionError
from sucrose.formats import torch_zip as layout
from sucrose.formats.limits import MAX_ZIP_DIRECTORY_NBYTES

_MAX_COMMENT_NBYTES = 0xFFFF
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW_DATA = 0x0008

ReadAt = Callable[[int, int], bytes]
"""(offset, nbytes) → that many bytes of the file, fewer only at its end."""

_Entry = tuple[int, bytes, int, int, bool]
"""Offset of the local header, name, nbytes in the file, CRC-32, whether it is compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One record of a file, as the central directory has it."""

    name: str
    header_offset: int
    """Of the local header."""
    offset: int
    """Of the data. An expectation until `locate` has seen the local header."""
    nbytes: int
    crc32: int
    end: int
    """Where the next record or the central directory begins."""
    compressed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Extent:
    count: int
    nbytes: int
    offset: int


def looks_like_zip(read_at: ReadAt, file_nbytes: int) -> bool:
    """Whether the file begins or ends like a zip file: a damaged one is still not something else."""
    if read_at(0, 4) == layout.LOCAL_MAGIC:
        return True
    tail = read_at(max(0, file_nbytes - layout.END.size), layout.END.size)
    return tail.startswith(layout.END_MAGIC) and len(tail) == layout.END.size


def read_directory(read_at: ReadAt, file_nbytes: int, path: str) -> list[Member]:
    """The records of the file, in the order of their data.

    Only the end of the file is read. Where a record's data begins depends on its local header;
    until that is read along with the data, the padding of `torch.save` is what to expect.

    Raises:
        CorruptionError: the file is torn, inconsistent, or holds encrypted records.
    """
    return _Directory(read_at, file_nbytes, path).members()


def locate(member: Member, head: bytes | bytearray, path: str) -> int:
    """Checks a record's local header, and says where its data begins.

    `head` is the file from `member.header_offset`: at least `head_nbytes(member)` bytes.

    Raises:
        CorruptionError: the record is compressed, contradicts the directory, or runs into the next.
    """
    name = member.name.encode()
    if member.compressed:
        reason = "the record is compressed, and torch.save never compresses: store it instead (zip -0)"
        _refuse(path, reason, member.header_offset, member.name)
    if len(head) < layout.LOCAL_HEADER.size + len(name):
        _refuse(path, "the record's header is cut off", member.header_offset, member.name)
    (
        magic, _, flags, method, _, _, crc32, _, nbytes, name_nbytes, extra_nbytes,
    ) = layout.LOCAL_HEADER.unpack_from(head)  # fmt: skip
    offset: int = member.header_offset + layout.LOCAL_HEADER.size + name_nbytes + extra_nbytes
    if (
        magic != layout.LOCAL_MAGIC
        or method
        or flags & _ENCRYPTED
        or name_nbytes != len(name)
        or not head.startswith(name, layout.LOCAL_HEADER.size)
        or not (flags & _SIZES_FOLLOW_DATA or (crc32 == member.crc32 and nbytes == min(member.nbytes, layout.U32_MAX)))
    ):
        _refuse(path, "the record's header differs from the directory", member.header_offset, member.name)
    if offset + member.nbytes > member.end:
        _refuse(path, "the record overlaps another", member.header_offset, member.name)
    return offset


def head_nbytes(member: Member) -> int:
    """How much of a record's local header `locate` needs."""
    return layout.LOCAL_HEADER.size + len(member.name.encode())


def read_member(read_at: ReadAt, member: Member, path: str, *, verify: bool = True) -> bytes:
    """All bytes of a small record.

    Raises:
        CorruptionError: as `locate`; or the bytes are not those that were saved, where `verify` asks.
    """
    offset = locate(member, read_at(member.header_offset, head_nbytes(member)), path)
    content = read_at(offset, member.nbytes)
    if verify:
        check_crc32(member, zlib.crc32(content), path)
    return content


def check_crc32(member: Member, crc32: int, path: str) -> None:
    """Compares the checksum of a record's bytes with the one that the file has of them.

    Raises:
        CorruptionError: they differ.
    """
    if crc32 == member.crc32:
        return
    raise CorruptionError(
        f"record {member.name!r} of {path}: CRC-32 {crc32:08x} != {member.crc32:08x} of the {member.nbytes} bytes at "
        f"offset {member.offset}. The file was changed after it was saved; restore another copy, or pass "
        "verify=False to sucrose.load for what is left of it.",
        path=path,
        key=member.name,
        offset=member.offset,
    )


class _Directory:
    def __init__(self, read_at: ReadAt, file_nbytes: int, path: str) -> None:
        self._read_at = read_at
        self._file_nbytes = file_nbytes
        self._path = path

    def members(self) -> list[Member]:
        extent = self._find()
        entries = sorted(self._entries(extent))
        begins = [header_offset for header_offset, *_ in entries]
        ends = [*begins[1:], extent.offset]
        return [self._member(entry, end) for entry, end in zip(entries, ends, strict=False)]

    def _member(self, entry: _Entry, end: int) -> Member:
        header_offset, name, nbytes, crc32, compressed = entry
        at_least = header_offset + layout.LOCAL_HEADER.size + len(name)
        if at_least + nbytes > end:
            self._refuse("the record overlaps another or lies outside the file", header_offset, name)
        offset = layout.data_offset(header_offset, len(name), nbytes)
        return Member(
            name=self._text(name, header_offset),
            header_offset=header_offset,
            offset=offset if offset + nbytes <= end else at_least,
            nbytes=nbytes,
            crc32=crc32,
            end=end,
            compressed=compressed,
        )

    def _find(self) -> _Extent:
        """Where the central directory lies."""
        tail_nbytes = min(self._file_nbytes, layout.END.size + _MAX_COMMENT_NBYTES)
        tail_offset = self._file_nbytes - tail_nbytes
        tail = self._read_at(tail_offset, tail_nbytes)
        at = len(tail) - layout.END.size
        while True:
            at = tail.rfind(layout.END_MAGIC, 0, max(0, at + len(layout.END_MAGIC)))
            if at < 0:
                self._refuse("the zip end record is missing, so its end was cut off", tail_offset)
            fields = layout.END.unpack_from(tail, at)
            if at + layout.END.size + fields[-1] == len(tail):
                break
            at -= 1
        end_offset = tail_offset + at
        _, disk, central_disk, disk_count, count, nbytes, offset, _ = fields
        extent = _Extent(count=count, nbytes=nbytes, offset=offset)
        if count == layout.U16_MAX or layout.U32_MAX in (nbytes, offset):
            extent, end_offset = self._find64(end_offset)
        elif disk or central_disk or disk_count != count:
            self._refuse("the zip end record speaks of several disks", end_offset)
        if extent.offset + extent.nbytes > end_offset:
            self._refuse("the central directory overlaps the zip end record", end_offset)
        return extent

    def _find64(self, end_offset: int) -> tuple[_Extent, int]:
        locator_offset = end_offset - layout.END64_LOCATOR.size
        fields = self._unpack(layout.END64_LOCATOR, locator_offset)
        magic, disk, offset, disks = fields
        if magic != layout.END64_LOCATOR_MAGIC or disk or disks > 1:
            self._refuse("the zip64 locator is broken", locator_offset)
        if offset + layout.END64.size > locator_offset:
            self._refuse("the zip64 end record lies outside its place", locator_offset)
        fields = self._unpack(layout.END64, offset)
        magic, _, _, _, disk, central_disk, disk_count, count, nbytes, central_offset = fields
        if magic != layout.END64_MAGIC or disk or central_disk or disk_count != count:
            self._refuse("the zip64 end record is broken", offset)
        return _Extent(count=count, nbytes=nbytes, offset=central_offset), offset

    def _entries(self, extent: _Extent) -> list[_Entry]:
        if extent.nbytes > MAX_ZIP_DIRECTORY_NBYTES:
            self._refuse(f"the directory has {extent.nbytes} bytes, more than any of torch.save", extent.offset)
        if extent.count * layout.CENTRAL_HEADER.size > extent.nbytes:
            self._refuse(f"no room for {extent.count} records in the directory", extent.offset)
        central = self._read_at(extent.offset, extent.nbytes)
        if len(central) != extent.nbytes:
            self._refuse("the central directory is cut off", extent.offset)
        entries = []
        names = set()
        at = 0
        for _ in range(extent.count):
            entry, after = self._entry(central, at, extent.offset)
            name = entry[1]
            if name in names:
                self._refuse("two records have the same name", extent.offset + at, name)
            names.add(name)
            entries.append(entry)
            at = after
        if at != extent.nbytes:
            self._refuse("the central directory is longer than its records", extent.offset + at)
        return entries

    def _entry(self, central: bytes, at: int, central_offset: int) -> tuple[_Entry, int]:
        where = central_offset + at
        after = at + layout.CENTRAL_HEADER.size
        if after > len(central):
            self._refuse("the central directory is cut off", where)
        (
            magic, _, _, flags, method, _, _, crc32, stored_nbytes, nbytes,
            name_nbytes, extra_nbytes, comment_nbytes, _, _, _, header_offset,
        ) = layout.CENTRAL_HEADER.unpack_from(central, at)  # fmt: skip
        if magic != layout.CENTRAL_MAGIC:
            self._refuse("the central directory is broken", where)
        name = central[after : after + name_nbytes]
        extra = central[after + name_nbytes : after + name_nbytes + extra_nbytes]
        after += name_nbytes + extra_nbytes + comment_nbytes
        if after > len(central):
            self._refuse("the central directory is cut off", where, name)
        if flags & _ENCRYPTED:
            self._refuse("the record is encrypted; torch.save never encrypts", where, name)
        if layout.U32_MAX in (stored_nbytes, nbytes, header_offset):
            numbers = (nbytes, stored_nbytes, header_offset)
            nbytes, stored_nbytes, header_offset = self._large(numbers, extra, where, name)
        if stored_nbytes != nbytes and method == 0:
            self._refuse(f"{nbytes} bytes stored in {stored_nbytes}", where, name)
        return (header_offset, name, stored_nbytes, crc32, method != 0), after

    def _large(self, numbers: tuple[int, int, int], extra: bytes, where: int, name: bytes) -> list[int]:
        """Replaces each number that did not fit by the one in the zip64 extra field."""
        at = 0
        while at + layout.EXTRA_HEADER.size <= len(extra):
            tag, nbytes = layout.EXTRA_HEADER.unpack_from(extra, at)
            at += layout.EXTRA_HEADER.size
            if tag == layout.ZIP64_EXTRA and at + nbytes <= len(extra):
                large = iter(struct.unpack_from(f"<{nbytes // 8}Q", extra, at))
                found = [next(large, -1) if n == layout.U32_MAX else n for n in numbers]
                if -1 not in found:
                    return found
            at += nbytes
        return self._refuse("the zip64 field is missing or too short", where, name)

    def _unpack(self, fields: struct.Struct, offset: int) -> tuple[Any, ...]:
        data = self._read_at(offset, fields.size) if offset >= 0 else b""
        if len(data) != fields.size:
            self._refuse("the zip end record is cut off", max(0, offset))
        return fields.unpack(data)

    def _text(self, name: bytes, offset: int) -> str:
        try:
            return name.decode()
        except UnicodeDecodeError:
            return self._refuse("the record's name is not UTF-8", offset, name)

    def _refuse(self, reason: str, offset: int, name: bytes | None = None) -> NoReturn:
        key = None if name is None else name.decode(errors="backslashreplace")
        _refuse(self._path, reason, offset, key)


def _refuse(path: str, reason: str, offset: int, key: str | None) -> NoReturn:
    record = "" if key is None else f"record {key!r} of "
    raise CorruptionError(f"{record}{path}: {reason} (offset {offset}).", path=path, key=key, offset=offset)

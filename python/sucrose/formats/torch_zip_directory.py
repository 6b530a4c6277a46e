"""The zip container of `torch.save`: finding the records of a file that may be hostile or torn.

Everything is checked before anyone relies on it: each number against the file's length, the
central directory against the local headers, each record against its neighbours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from sucrose.errors import CorruptionError
from sucrose.formats import torch_zip as layout

_MAX_COMMENT_NBYTES = 0xFFFF
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW_DATA = 0x0008

ReadAt = Callable[[int, int], bytes]
"""(offset, nbytes) → that many bytes of the file, fewer only at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One record of a file."""

    name: str
    offset: int
    """Of the data."""
    nbytes: int
    crc32: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    name: bytes
    header_offset: int
    nbytes: int
    crc32: int


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


def read_members(read_at: ReadAt, file_nbytes: int, path: str) -> list[Member]:
    """The records of the file, in the order of their data.

    Raises:
        CorruptionError: the file is torn, inconsistent, or holds records that are compressed or
            encrypted, which `torch.save` never writes.
    """
    return _Directory(read_at, file_nbytes, path).members()


class _Directory:
    def __init__(self, read_at: ReadAt, file_nbytes: int, path: str) -> None:
        self._read_at = read_at
        self._file_nbytes = file_nbytes
        self._path = path

    def members(self) -> list[Member]:
        extent = self._find()
        entries = self._entries(extent)
        entries.sort(key=lambda entry: entry.header_offset)
        ends = [entry.header_offset for entry in entries[1:]]
        ends.append(extent.offset)
        return [self._member(entry, end) for entry, end in zip(entries, ends, strict=True)]

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
            if entry.name in names:
                self._refuse("two records have the same name", extent.offset + at, entry.name)
            names.add(entry.name)
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
        if method != 0:
            reason = "the record is compressed; torch.save never compresses: store the files"
            self._refuse(f"{reason} (zip -0)", where, name)
        if layout.U32_MAX in (stored_nbytes, nbytes, header_offset):
            numbers = (nbytes, stored_nbytes, header_offset)
            nbytes, stored_nbytes, header_offset = self._large(numbers, extra, where, name)
        if stored_nbytes != nbytes:
            self._refuse(f"{nbytes} bytes stored in {stored_nbytes}", where, name)
        entry = _Entry(name=name, header_offset=header_offset, nbytes=nbytes, crc32=crc32)
        return entry, after

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

    def _member(self, entry: _Entry, end: int) -> Member:
        """Checks the local header of `entry`, which must end before `end` with all its data."""
        at = entry.header_offset
        head_nbytes = layout.LOCAL_HEADER.size + len(entry.name)
        head = self._read_at(at, head_nbytes) if at + head_nbytes <= end else b""
        if len(head) != head_nbytes:
            self._refuse("the record overlaps another or lies outside the file", at, entry.name)
        (
            magic, _, flags, method, _, _, crc32, _, nbytes, name_nbytes, extra_nbytes,
        ) = layout.LOCAL_HEADER.unpack_from(head)  # fmt: skip
        same_name = name_nbytes == len(entry.name) and head.endswith(entry.name)
        if magic != layout.LOCAL_MAGIC or not same_name or method or flags & _ENCRYPTED:
            self._refuse("the record's header differs from the directory", at, entry.name)
        if not flags & _SIZES_FOLLOW_DATA and (crc32 != entry.crc32 or nbytes != min(entry.nbytes, layout.U32_MAX)):
            self._refuse("the record's header differs from the directory", at, entry.name)
        offset = at + head_nbytes + extra_nbytes
        if offset + entry.nbytes > end:
            self._refuse("the record overlaps another or lies outside the file", at, entry.name)
        name = self._text(entry.name, at)
        return Member(name=name, offset=offset, nbytes=entry.nbytes, crc32=entry.crc32)

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
        record = "" if key is None else f"record {key!r} of "
        message = f"{record}{self._path}: {reason} (offset {offset})."
        raise CorruptionError(message, path=self._path, key=key, offset=offset)

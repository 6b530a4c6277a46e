"""The zip container of `torch.save`: how its bytes are laid out for writing. No torch here.

Every record is *stored*: its bytes lie in the file as they are, so that they can be written,
read and mapped in place.

1. Per record: a local header, an extra field that pads, and the data on a multiple of 64 bytes.
   Sizes and CRC-32 stand in the header; nothing follows the data.
2. The central directory: one entry per record, with the offset of its local header.
3. The end record; preceded by its zip64 form where counts, sizes or offsets need it.

Source: PKWARE, APPNOTE.TXT, version 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ALIGNMENT = 64
"""Of every record's data; torch maps files and expects its tensors aligned."""

U16_MAX = 0xFFFF
U32_MAX = 0xFFFFFFFF
"""A field with this value says that the real one stands in a zip64 structure."""

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
CENTRAL_HEADER = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
END64 = struct.Struct("<4sQ2H2I4Q")
END64_LOCATOR = struct.Struct("<4sIQI")
EXTRA_HEADER = struct.Struct("<2H")

LOCAL_MAGIC = b"PK\x03\x04"
CENTRAL_MAGIC = b"PK\x01\x02"
END_MAGIC = b"PK\x05\x06"
END64_MAGIC = b"PK\x06\x06"
END64_LOCATOR_MAGIC = b"PK\x06\x07"

ZIP64_EXTRA = 0x0001
PADDING_EXTRA = 0x4246
"""The letters FB, as torch marks its padding."""

_VERSION = 10
_VERSION_ZIP64 = 45
_DATE = 0x21
"""1980-01-01: equal states give equal files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record to be written."""

    name: str
    nbytes: int
    crc32: int
    content: bytes | None = None
    """The bytes, where they become part of the layout; None where the caller has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A whole file, except for the bytes that the caller has.

    The file is `frame[:cuts[0]]`, the first record without content, `frame[cuts[0]:cuts[1]]`,
    the second one, and so on, and the rest of `frame`.
    """

    frame: bytes
    cuts: array[int]
    nbytes: int


def inline(name: str, content: bytes) -> Record:
    """A small record that brings its bytes along."""
    return Record(name=name, nbytes=len(content), crc32=zlib.crc32(content), content=content)


def data_offset(header_offset: int, name_nbytes: int, nbytes: int) -> int:
    """Where the data of a record begins, given where its local header does."""
    large = 20 if nbytes >= U32_MAX else 0
    head = header_offset + LOCAL_HEADER.size + name_nbytes + large + EXTRA_HEADER.size
    return head + -head % ALIGNMENT


def plan(records: Iterable[Record]) -> Layout:
    """Lays out `records` in their order."""
    frame = bytearray()
    cuts = array("Q")
    central = bytearray()
    offset = 0
    count = 0
    for record in records:
        name = record.name.encode()
        header = _local_header(record, name, offset)
        central += _central_header(record, name, offset)
        frame += header
        if record.content is None:
            cuts.append(len(frame))
        else:
            frame += record.content
        offset += len(header) + record.nbytes
        count += 1
    end = _end(count, len(central), offset)
    frame += central
    frame += end
    return Layout(frame=bytes(frame), cuts=cuts, nbytes=offset + len(central) + len(end))


def _local_header(record: Record, name: bytes, offset: int) -> bytes:
    extra = b""
    nbytes = record.nbytes
    version = _VERSION
    if nbytes >= U32_MAX:
        extra = EXTRA_HEADER.pack(ZIP64_EXTRA, 16) + struct.pack("<2Q", nbytes, nbytes)
        nbytes = U32_MAX
        version = _VERSION_ZIP64
    used = LOCAL_HEADER.size + len(name) + len(extra) + EXTRA_HEADER.size
    padding = data_offset(offset, len(name), record.nbytes) - offset - used
    extra += EXTRA_HEADER.pack(PADDING_EXTRA, padding) + bytes(padding)
    head = LOCAL_HEADER.pack(LOCAL_MAGIC, version, 0, 0, 0, _DATE, record.crc32, nbytes, nbytes, len(name), len(extra))
    return head + name + extra


def _central_header(record: Record, name: bytes, offset: int) -> bytes:
    # The zip64 field holds just the numbers that do not fit, in this order.
    large = b""
    nbytes = record.nbytes
    if nbytes >= U32_MAX:
        large += struct.pack("<2Q", nbytes, nbytes)
        nbytes = U32_MAX
    if offset >= U32_MAX:
        large += struct.pack("<Q", offset)
        offset = U32_MAX
    extra = EXTRA_HEADER.pack(ZIP64_EXTRA, len(large)) + large if large else b""
    version = _VERSION_ZIP64 if large else _VERSION
    lengths = (len(name), len(extra), 0)
    head = CENTRAL_HEADER.pack(
        CENTRAL_MAGIC, version, version, 0, 0, 0, _DATE, record.crc32, nbytes, nbytes,
        *lengths, 0, 0, 0, offset,
    )  # fmt: skip
    return head + name + extra


def _end(count: int, central_nbytes: int, central_offset: int) -> bytes:
    end = b""
    if count >= U16_MAX or central_nbytes >= U32_MAX or central_offset >= U32_MAX:
        end64_offset = central_offset + central_nbytes
        end = END64.pack(
            END64_MAGIC, END64.size - 12, _VERSION_ZIP64, _VERSION_ZIP64, 0, 0,
            count, count, central_nbytes, central_offset,
        ) + END64_LOCATOR.pack(END64_LOCATOR_MAGIC, 0, end64_offset, 1)  # fmt: skip
    count = min(count, U16_MAX)
    central_nbytes = min(central_nbytes, U32_MAX)
    central_offset = min(central_offset, U32_MAX)
    return end + END.pack(END_MAGIC, 0, 0, count, count, central_nbytes, central_offset, 0)

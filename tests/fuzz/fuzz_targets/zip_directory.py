"""The zip container of `torch.save`: its directory, and its records.

Bytes are a file as it is, or after a one, changed fields of a sound file: six bytes each, for which structure, which of
its fields, what to do, and with what.
"""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import torch

from sucrose.errors import CorruptionError
from sucrose.formats import torch_zip as layout
from sucrose.formats.torch_zip_directory import (
    Member,
    head_nbytes,
    locate,
    looks_like_zip,
    read_directory,
    read_member,
)

_Structure = tuple[struct.Struct, int]
"""A header and where it is."""

_NUMBERS = (0, 1, 0x7F, 0xFF, 0x0800, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)
_MAX_EDITS = 20


def _small() -> bytes:
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(3), "n": [1, "two"]}, buffer)
    return buffer.getvalue()


def _zip64(file: bytes) -> bytes:
    """The same records, with numbers that stand in zip64 structures."""
    *_, count, _, offset, _ = layout.END.unpack_from(file, len(file) - layout.END.size)
    central = bytearray()
    at = offset
    for _ in range(count):
        fields = list(layout.CENTRAL_HEADER.unpack_from(file, at))
        name = file[at + layout.CENTRAL_HEADER.size :][: fields[10]]
        at += layout.CENTRAL_HEADER.size + fields[10] + fields[11] + fields[12]
        large = struct.pack("<3Q", fields[9], fields[8], fields[16])
        fields[8] = fields[9] = fields[16] = layout.U32_MAX
        fields[11] = layout.EXTRA_HEADER.size + len(large)
        central += layout.CENTRAL_HEADER.pack(*fields) + name
        central += layout.EXTRA_HEADER.pack(layout.ZIP64_EXTRA, len(large)) + large
    end = layout.END64.pack(
        layout.END64_MAGIC, layout.END64.size - 12, 45, 45, 0, 0, count, count, len(central), offset
    )
    locator = layout.END64_LOCATOR.pack(layout.END64_LOCATOR_MAGIC, 0, offset + len(central), 1)
    last = layout.END.pack(layout.END_MAGIC, 0, 0, layout.U16_MAX, layout.U16_MAX, layout.U32_MAX, layout.U32_MAX, 0)
    return file[:offset] + bytes(central) + end + locator + last


def _structures(file: bytes) -> list[_Structure]:
    kinds = {
        layout.LOCAL_MAGIC: layout.LOCAL_HEADER, layout.CENTRAL_MAGIC: layout.CENTRAL_HEADER,
        layout.END_MAGIC: layout.END, layout.END64_MAGIC: layout.END64,
        layout.END64_LOCATOR_MAGIC: layout.END64_LOCATOR,
        struct.pack("<2H", layout.ZIP64_EXTRA, 24): struct.Struct("<4s3Q"),
    }  # fmt: skip
    found = [(fields, at) for at in range(len(file) - 3) if (fields := kinds.get(file[at : at + 4]))]
    return [(fields, at) for fields, at in found if at + fields.size <= len(file)]


_SOUND = [_small(), _zip64(_small())]
_STRUCTURES = [_structures(file) for file in _SOUND]


def seeds() -> dict[str, bytes]:
    """Small files, and changes of each kind."""
    return {
        "torch_save.pt": _SOUND[0], "zip64.pt": _SOUND[1], "unchanged": b"\x01\x00", "unchanged_zip64": b"\x01\x01",
        "number": b"\x01\x00" + bytes([7, 9, 0, 3, 0, 0]), "shifted": b"\x01\x01" + bytes([12, 4, 1, 129, 0, 0]),
        "copied": b"\x01\x00" + bytes([8, 16, 2, 7, 16, 0]), "comment": b"\x01\x01" + bytes([0, 0, 3, 40, 0, 0]),
    }  # fmt: skip


def check(data: bytes) -> None:
    """Records of an accepted file lie in it, each for itself."""
    file = _changed(data[1:]) if data.startswith(b"\x01") else data

    def read_at(offset: int, nbytes: int) -> bytes:
        assert offset >= 0
        assert nbytes <= len(file) + (1 << 17), "asks for more than there is"
        return file[offset : offset + nbytes]

    with suppress(CorruptionError):
        looks_like_zip(read_at, len(file))
        end = 0
        for member in read_directory(read_at, len(file), "file"):
            with suppress(CorruptionError):
                begin = locate(member, read_at(member.header_offset, head_nbytes(member)), "file")
                assert end <= begin <= begin + member.nbytes <= member.end <= len(file)
                _check_content(file, member, begin)
            end = member.end


def _check_content(file: bytes, member: Member, begin: int) -> None:
    """It comes out where it has the checksum that the file says, and only there."""

    def read_at(offset: int, nbytes: int) -> bytes:
        return file[offset : offset + nbytes]

    content = file[begin : begin + member.nbytes]
    assert read_member(read_at, member, "file", verify=False) == content
    with suppress(CorruptionError):
        assert read_member(read_at, member, "file") == content
        assert zlib.crc32(content) == member.crc32
        return
    assert zlib.crc32(content) != member.crc32


def _changed(edits: bytes) -> bytes:
    which = edits[0] % len(_SOUND) if edits else 0
    file, structures = bytearray(_SOUND[which]), _STRUCTURES[which]
    for at in range(1, min(len(edits) - 5, 6 * _MAX_EDITS), 6):
        where, field, what, first, second, third = edits[at : at + 6]
        kind = what % 5
        if kind == 3:  # behind the end, with the length where it is expected
            file[-2:] = first.to_bytes(2, "little")
            file += bytes([second]) * first
            break
        if kind == 4:
            begin = int.from_bytes(edits[at + 4 : at + 6], "little") % len(file)
            file[begin] ^= first
            continue
        _change_field(file, structures, where, field, (kind, first, second, third))
    return bytes(file)


def _change_field(
    file: bytearray, structures: list[_Structure], where: int, field: int, change: tuple[int, int, int, int]
) -> None:
    kind, first, second, third = change
    fields, offset = structures[where % len(structures)]
    numbers = list(fields.unpack_from(file, offset))
    field = 1 + field % (len(numbers) - 1)
    if kind == 0:
        number = _NUMBERS[first % len(_NUMBERS)]
    elif kind == 1:
        number = numbers[field] + first - 128 + 256 * (second - 128 if third & 1 else 0)
    else:
        others, other_offset = structures[first % len(structures)]
        found = others.unpack_from(file, other_offset)
        number = found[1 + second % (len(found) - 1)]
    for width in (8, 4, 2):  # as much of it as the field takes
        with suppress(struct.error):
            fields.pack_into(file, offset, *numbers[:field], number & ((1 << 8 * width) - 1), *numbers[field + 1 :])
            return

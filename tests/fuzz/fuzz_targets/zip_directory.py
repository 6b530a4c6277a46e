"""The zip container of `torch.save`: its directory, and its records."""

from __future__ import annotations

import io
from contextlib import suppress

import torch

from sucrose.errors import SucroseError
from sucrose.formats.torch_zip_directory import head_nbytes, locate, looks_like_zip, read_directory, read_member


def seeds() -> dict[str, bytes]:
    """Small files of torch.save and of this package."""
    buffer = io.BytesIO()
    torch.save({"w": torch.arange(3), "n": [1, "two"]}, buffer)
    return {"torch_save.pt": buffer.getvalue()}


def check(data: bytes) -> None:
    """Records of an accepted file lie in it, each for itself."""

    def read_at(offset: int, nbytes: int) -> bytes:
        assert offset >= 0
        assert nbytes <= len(data) + (1 << 17), "asks for more than there is"
        return data[offset : offset + nbytes]

    with suppress(SucroseError):
        looks_like_zip(read_at, len(data))
        end = 0
        for member in read_directory(read_at, len(data), "file"):
            with suppress(SucroseError):
                begin = locate(member, read_at(member.header_offset, head_nbytes(member)), "file")
                assert end <= begin <= begin + member.nbytes <= member.end <= len(data)
                read_member(read_at, member, "file", verify=False)
            end = member.end

"""Reading the zip archives of `torch.save`, whoever wrote them.

1. The central directory says where the records are; small ones are read and checked at once.
2. All storages are read into fresh memory in one sweep, the local headers before them included,
   so that a cold file is read from front to back.
3. The headers are checked, then the CRC-32 of every storage, computed on the way.
4. The pickle is rebuilt around the storages.
"""

from __future__ import annotations

import logging
import os
import sys
from array import array
from typing import TYPE_CHECKING, Any

import torch

from sucrose.engine import Extents, get_engine
from sucrose.errors import CorruptionError
from sucrose.formats.torch_zip_directory import (
    Member,
    check_crc32,
    locate,
    looks_like_zip,
    read_directory,
    read_member,
)
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.tensors import buffer_address, storage_address
from sucrose.snapshot.torch_unpickle import unpickle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sucrose.snapshot.torch_unpickle import MapLocation

logger = logging.getLogger(__name__)


class Archive:
    """An open file that may be a zip archive of `torch.save`. Belongs to one thread."""

    def __init__(self, fd: int, path: str, *, verify: bool) -> None:
        self._fd = fd
        self._path = path
        self._verify = verify
        self._nbytes = os.fstat(fd).st_size
        self._members: dict[str, Member] = {}

    @collector_paused()
    def is_ours(self) -> bool:
        """Whether this is an archive of `torch.save` in this machine's byte order."""
        if self._nbytes == 0:
            raise CorruptionError(f"{self._path} is empty.", path=self._path)
        if not looks_like_zip(self._read_at, self._nbytes):
            return False
        members = read_directory(self._read_at, self._nbytes, self._path)
        folder = members[0].name.partition("/")[0] + "/" if members else ""
        self._members = {m.name.removeprefix(folder): m for m in members if m.name.startswith(folder)}
        if "data.pkl" not in self._members:
            message = f"{self._path} is a zip file without a record 'data.pkl': not one of torch.save."
            raise CorruptionError(message, path=self._path)
        if "constants.pkl" in self._members:
            return False  # TorchScript
        self._verify = self._verify and self._has_checksums()
        byteorder = self._members.get("byteorder")
        return byteorder is None or self._content(byteorder) == sys.byteorder.encode()

    @collector_paused()
    def load(self, map_location: MapLocation, *, weights_only: bool) -> Any:
        """The object in the archive."""
        data = self._content(self._members["data.pkl"])
        records = {
            name.removeprefix("data/"): member for name, member in self._members.items() if name.startswith("data/")
        }
        storages = {key: _new_storage(member.nbytes) for key, member in records.items()}
        self._read_storages(list(records.values()), list(storages.values()))
        return unpickle(data, storages, map_location, weights_only=weights_only, path=self._path)

    def _read_storages(self, members: list[Member], storages: list[torch.UntypedStorage]) -> None:
        contents = Extents(keep_alive=list(storages))
        for storage in storages:
            contents.append(storage_address(storage), storage.nbytes())
        expected = [member.offset for member in members]
        found, crc32s = self._read_records(members, expected, contents)
        if found != expected:
            _, crc32s = self._read_records(members, found, contents)
        if self._verify:
            for member, crc in zip(members, crc32s, strict=True):
                check_crc32(member, crc, self._path)

    def _read_records(
        self, members: list[Member], begins: list[int], contents: Extents
    ) -> tuple[list[int], Sequence[int]]:
        """Reads local headers and data in one sweep; says where the data really begin, and their CRC-32."""
        heads = bytearray(sum(begins) - sum(member.header_offset for member in members))
        head = buffer_address(heads)
        offsets = array("Q")
        destinations = Extents(keep_alive=[heads, contents])
        for member, begin, address in zip(members, begins, contents.addresses, strict=True):
            offsets.extend((member.header_offset, begin))
            destinations.append(head, begin - member.header_offset)
            destinations.append(address, member.nbytes)
            head += begin - member.header_offset
        # Through the open descriptor: a save may put another file in this one's place meanwhile.
        opened = f"/proc/self/fd/{self._fd}"
        try:
            result = (
                get_engine()
                .read(opened, offsets, destinations, file_nbytes=self._nbytes, crc32=self._verify, fresh=True)
                .wait()
            )
        except OSError as error:
            error.filename = self._path
            raise
        found = []
        at = 0
        for member, begin in zip(members, begins, strict=True):
            after = at + begin - member.header_offset
            found.append(locate(member, heads[at:after], self._path))
            at = after
        return found, result.crc32s[1::2]

    def _content(self, member: Member) -> bytes:
        return read_member(self._read_at, member, self._path, verify=self._verify)

    def _has_checksums(self) -> bool:
        # torch.serialization.set_crc32_options(False) leaves every field 0. No damage does that.
        if any(member.crc32 for member in self._members.values()):
            return True
        logger.warning("%s was saved without checksums, so it is loaded unchecked", self._path)
        return False

    def _read_at(self, offset: int, nbytes: int) -> bytes:
        data = os.pread(self._fd, nbytes, offset)
        while len(data) < nbytes and (more := os.pread(self._fd, nbytes - len(data), offset + len(data))):
            data += more
        return data


def _new_storage(nbytes: int) -> torch.UntypedStorage:
    return torch.UntypedStorage(nbytes, device="cpu")  # type: ignore[no-untyped-call]

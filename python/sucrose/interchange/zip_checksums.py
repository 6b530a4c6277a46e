"""Checking a file of `torch.save` by its checksums, in bounded memory. No torch here, and nothing is unpickled.

Every record has a CRC-32. Threads read pieces of the file and sum them up, side by side over the records; both let go
of the interpreter.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sucrose.errors import CorruptionError
from sucrose.formats.torch_zip_directory import (
    Member,
    head_nbytes,
    locate,
    looks_like_zip,
    read_directory,
)

_PIECE_NBYTES = 4 << 20
_MOST_THREADS = 16

Advance = Callable[[int], object]
"""Is told of each piece, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProblem:
    """A record whose bytes are not those that were saved."""

    record: str
    offset: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipReport:
    """What was read, and what is wrong with it; `has_checksums` is false where the file was saved without any."""

    nbytes: int
    has_checksums: bool
    problems: tuple[RecordProblem, ...]


def is_zip(path: str) -> bool:
    """Whether the file is a zip file, or what is left of one: files of torch before 1.6 have no checksums.

    Raises:
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return looks_like_zip(_reader(fd), os.fstat(fd).st_size)
    finally:
        os.close(fd)


def check_zip(path: str, advance: Advance | None = None) -> ZipReport:
    """Reads all of a zip file and compares every checksum.

    Raises:
        CorruptionError: its directory is torn or inconsistent.
        OSError: it cannot be read.

    Example:
        >>> import sucrose, torch
        >>> from sucrose.interchange.zip_checksums import check_zip
        >>> sucrose.save({"weight": torch.ones(3)}, "/tmp/weights.pt")
        >>> check_zip("/tmp/weights.pt").problems
        ()
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        read_at = _reader(fd)
        members = read_directory(read_at, os.fstat(fd).st_size, path)
        has_checksums = any(member.crc32 for member in members)

        def check(member: Member) -> RecordProblem | None:
            offset = locate(member, read_at(member.header_offset, head_nbytes(member)), path)
            crc32 = 0
            for begin in range(0, member.nbytes, _PIECE_NBYTES):
                piece = read_at(offset + begin, min(_PIECE_NBYTES, member.nbytes - begin))
                crc32 = zlib.crc32(piece, crc32)
                if advance is not None:
                    advance(len(piece))
            if crc32 == member.crc32 or not has_checksums:
                return None
            return RecordProblem(
                record=member.name,
                offset=offset,
                message=f"record {member.name!r}: CRC-32 {crc32:08x} != {member.crc32:08x} of the {member.nbytes} "
                f"bytes at offset {offset}",
            )

        with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
            problems = tuple(problem for problem in threads.map(check, members) if problem is not None)
        nbytes = sum(member.nbytes for member in members)
    except OSError as error:
        error.filename = error.filename or path
        raise
    finally:
        os.close(fd)
    return ZipReport(nbytes=nbytes, has_checksums=has_checksums, problems=problems)


def raise_first(report: ZipReport, path: str) -> None:
    """Raises CorruptionError where something is wrong."""
    for problem in report.problems:
        raise CorruptionError(
            f"{path}: {problem.message}. The file was changed after it was saved; use another copy",
            path=path,
            key=problem.record,
            offset=problem.offset,
        )


def _reader(fd: int) -> Callable[[int, int], bytes]:
    def read_at(offset: int, nbytes: int) -> bytes:
        data = os.pread(fd, nbytes, offset)
        while len(data) < nbytes and (more := os.pread(fd, nbytes - len(data), offset + len(data))):
            data += more
        return data

    return read_at

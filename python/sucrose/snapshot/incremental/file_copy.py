"""Files of a new snapshot that consist of what lies in files already, written with little memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from sucrose.engine import CHUNK_NBYTES, Engine
from sucrose.errors import CorruptionError
from sucrose.formats.index import DIGEST_NAME, FileRecord, SnapshotIndex
from sucrose.snapshot.chunk_damage import chunk_damage
from sucrose.snapshot.incremental.file_ranges import FileRange, read_ranges
from sucrose.snapshot.records import stored_chunks
from sucrose.snapshot.remote.sizes import Sizes
from sucrose.snapshot.tensors import buffer_address

if TYPE_CHECKING:
    from sucrose.storage import Directory

_WINDOW_NBYTES = 16 * CHUNK_NBYTES


def copy_checked(
    storage: Directory, index: SnapshotIndex, name: str, target: str, engine: Engine, *, link: bool
) -> None:
    """Copies a file as it lies on the disk, after all of it was compared with its digests.

    Of one in an object store it is the copy that is compared.

    Args:
        storage: the snapshot that has it.
        index: of that snapshot.
        name: of the file.
        target: path of the copy.
        engine: reads it.
        link: whether the copy may be the same file under another name, which needs no look at it.

    Raises:
        CorruptionError: it was changed.
        OSError: reading or writing failed.
    """
    source, record = storage.path_of(name), index.files[name]
    if not storage.is_local:
        _download(storage, name, target, engine)
    if link:
        storage.size(name)  # refuses symbolic links
        with suppress(OSError):  # a file system without, or over its limit of them
            os.link(source, target)
            return
    result = engine.verify(
        source if storage.is_local else target,
        file_nbytes=record.nbytes,
        digests=record.packed_digests(),
        stored=stored_chunks(record),
        digest_kind=index.digest,
    ).wait()
    for chunk in result.corrupt:
        offset = chunk.index * CHUNK_NBYTES
        raise CorruptionError(chunk_damage(chunk, source, offset=offset), path=source, offset=offset)
    if storage.is_local:
        shutil.copyfile(source, target)


def _download(storage: Directory, name: str, target: str, engine: Engine) -> None:
    sizes = Sizes(storage)
    nbytes = sizes.of(name)
    buffer = bytearray(min(nbytes, _WINDOW_NBYTES))
    with open(target, "xb") as file:
        for begin in range(0, nbytes, _WINDOW_NBYTES):
            size = min(_WINDOW_NBYTES, nbytes - begin)
            wanted = FileRange(name, begin, size, buffer_address(buffer))
            read_ranges(storage, {}, DIGEST_NAME, [wanted], engine, sizes)  # without records: the bytes as they lie
            file.write(memoryview(buffer)[:size])


def write_ranges(
    path: str,
    header: bytes,
    ranges: Iterable[tuple[str, int, int]],
    storage: Directory,
    index: SnapshotIndex,
    engine: Engine,
) -> FileRecord:
    """Creates a file of `header` and then ranges (location, offset, nbytes) of files, a window at a time.

    Raises:
        CorruptionError: what is read was changed.
        OSError: reading or writing failed.
    """
    nbytes = 0
    digests = bytearray()
    sizes = Sizes(storage)
    with open(path, "xb") as file:
        for window in _windows(header, ranges):
            buffer = bytearray(sum(size for _, _, size in window))
            address, at = buffer_address(buffer), 0
            wanted = []
            for location, offset, size in window:
                if location is None:
                    buffer[at : at + size] = header
                else:
                    wanted.append(FileRange(location, offset, size, address + at))
                at += size
            read_ranges(storage, index.files, index.digest, wanted, engine, sizes)
            view = memoryview(buffer)
            for begin in range(0, len(buffer), CHUNK_NBYTES):
                digests += engine.digest(view[begin : begin + CHUNK_NBYTES], index.digest)
            file.write(buffer)
            nbytes += len(buffer)
    return FileRecord(nbytes, digests.hex())


def _windows(header: bytes, ranges: Iterable[tuple[str, int, int]]) -> Iterator[list[tuple[str | None, int, int]]]:
    """The same pieces of the file, cut so that each window but the last is whole chunks; None is the header."""
    window: list[tuple[str | None, int, int]] = [(None, 0, len(header))]
    room = _WINDOW_NBYTES - len(header) % _WINDOW_NBYTES
    for location, begin, size in ranges:
        offset, left = begin, size
        while left > 0:
            taken = min(left, room)
            window.append((location, offset, taken))
            offset, left, room = offset + taken, left - taken, room - taken
            if room == 0:
                yield window
                window, room = [], _WINDOW_NBYTES
    if window:
        yield window

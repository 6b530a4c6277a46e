"""What a checkpoint says about itself, and whether its structure is sound. No torch, and no tensor is read."""

from __future__ import annotations

import errno
import os
import stat
from typing import IO

from sucrose.catalog.soundness import check_structure, read_indexed
from sucrose.errors import CorruptionError, IncompleteSnapshotError
from sucrose.formats.index import INDEX_FILE
from sucrose.formats.limits import MAX_RECORD_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.torch_zip_directory import looks_like_zip, read_directory, read_member
from sucrose.scenarios.record import RECORD_NAME, Record, decode_record
from sucrose.snapshot.authenticity import signer_of
from sucrose.storage import LocalDirectory

_PICKLE_MAGIC = b"\x80"


def inspect(path: str, *, is_snapshot: bool) -> Record | None:
    """Checks the structure of the checkpoint at `path`.

    Returns:
        Its record; None where others than scenarios wrote it.

    Raises:
        CorruptionError: something is missing, cut off, or contradicts the rest.
        FormatVersionError: a newer release wrote it.
        OSError: it cannot be read.
    """
    data = _record_of_snapshot(LocalDirectory(path)) if is_snapshot else _record_of_file(path)
    return None if data is None else decode_record(data, path=path)


def _record_of_file(path: str) -> bytes | None:
    with open(path, "rb", opener=_without_waiting) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise CorruptionError(f"{path} is no regular file", path=path)
        nbytes = info.st_size

        def read_at(offset: int, count: int) -> bytes:
            return _read_at(file, offset, count)

        if not looks_like_zip(read_at, nbytes):
            if read_at(0, 1) != _PICKLE_MAGIC:  # files of torch before 1.6, which tell nothing of themselves
                raise CorruptionError(f"{path} was not written by torch.save.", path=path)
            return None
        members = read_directory(read_at, nbytes, path)
        folder = members[0].name.partition("/")[0] if members else ""
        by_name = {member.name: member for member in members}
        if f"{folder}/data.pkl" not in by_name:
            raise CorruptionError(
                f"{path} is a zip file without a record 'data.pkl': not one of torch.save.", path=path
            )
        record = by_name.get(f"{folder}/{RECORD_NAME}")
        if record is None:
            return None
        if record.nbytes > MAX_RECORD_NBYTES:
            raise CorruptionError(
                f"the record {RECORD_NAME!r} of {path} has {record.nbytes} bytes, more than any of a scenario",
                path=path,
            )
        return read_member(read_at, record, path)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # else a pipe would wait for somebody to write to it


def _read_at(file: IO[bytes], offset: int, nbytes: int) -> bytes:
    file.seek(offset)
    return file.read(nbytes)


def _record_of_snapshot(storage: LocalDirectory) -> bytes | None:
    if not os.path.exists(storage.path_of(INDEX_FILE)):
        _check_unindexed(storage)
        return None
    index = check_structure(storage, None, signer=signer_of(None))
    if RECORD_NAME not in index.files:
        return None
    if index.files[RECORD_NAME].nbytes > MAX_RECORD_NBYTES:
        path = storage.path_of(RECORD_NAME)
        raise CorruptionError(f"{path} is larger than any record of a scenario", path=path)
    return read_indexed(storage, index, RECORD_NAME)


def _check_unindexed(storage: LocalDirectory) -> None:
    """Snapshots of torchsnapshot have no index, and no record either."""
    if not os.path.exists(storage.path_of(METADATA_FILE)):
        path = storage.path_of(METADATA_FILE)
        raise IncompleteSnapshotError(errno.ENOENT, "the commit record is missing", path, path=storage.root)
    if os.path.exists(storage.path_of(RECORD_NAME)):
        path = storage.path_of(INDEX_FILE)
        raise CorruptionError(f"{path} is missing, and with it all digests", path=path)

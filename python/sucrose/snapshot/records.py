"""Size and digests of the small files of a snapshot, which need no engine to be written."""

from __future__ import annotations

from sucrose.engine import CHUNK_NBYTES, Engine
from sucrose.formats.index import FileRecord


def record_of(data: bytes, engine: Engine) -> FileRecord:
    """What the index has of a file with these contents."""
    digests = b"".join(engine.digest(data[begin : begin + CHUNK_NBYTES]) for begin in range(0, len(data), CHUNK_NBYTES))
    return FileRecord(len(data), digests.hex())

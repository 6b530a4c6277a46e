"""Between the index and the engine: what one has of a file, as the other takes it."""

from __future__ import annotations

from sucrose.engine import CHUNK_NBYTES, Engine, StoredChunks
from sucrose.formats.index import DIGEST_NAME, FileRecord


def record_of(data: bytes, engine: Engine, digest_kind: str = DIGEST_NAME) -> FileRecord:
    """What the index has of a small file with these contents."""
    begins = range(0, len(data), CHUNK_NBYTES)
    digests = b"".join(engine.digest(data[begin : begin + CHUNK_NBYTES], digest_kind) for begin in begins)
    return FileRecord(len(data), digests.hex())


def stored_chunks(record: FileRecord | None) -> StoredChunks | None:
    """Where the chunks of a compressed file lie; None for one that is not compressed."""
    if record is None or record.stored is None:
        return None
    return StoredChunks(sizes=record.stored.packed_sizes(), groups=record.stored.packed_groups())

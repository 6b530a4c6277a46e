"""Reading and writing the files of a snapshot, wherever they are: on paths by the engine, else through relays."""

from __future__ import annotations

from array import array
from functools import partial
from typing import TYPE_CHECKING

from sucrose.formats.index import DIGEST_NAME
from sucrose.snapshot.remote.downloads import downloads_of

if TYPE_CHECKING:
    from sucrose.engine import Engine, Extents, ReadTicket, StoredChunks
    from sucrose.storage import Directory


def begin_read(
    directory: Directory,
    engine: Engine,
    name: str,
    offsets: array[int],
    destinations: Extents,
    *,
    file_nbytes: int,
    digests: bytes = b"",
    crc32: bool = False,
    fresh: bool = False,
    max_inflight_nbytes: int = 0,
    stored: StoredChunks | None = None,
    digest_kind: str = DIGEST_NAME,
) -> ReadTicket:
    """Begins to fill memory with bytes of a file; `Engine.read` says what the arguments are.

    Raises:
        CorruptionError: `name` leads out of the directory. What is too short is one of the ticket's `wait`.
    """
    path = directory.path_of(name)
    if directory.is_local:
        return engine.read(
            path,
            offsets,
            destinations,
            file_nbytes=file_nbytes,
            digests=digests,
            crc32=crc32,
            fresh=fresh,
            max_inflight_nbytes=max_inflight_nbytes,
            stored=stored,
            digest_kind=digest_kind,
        )
    ticket = engine.read_relayed(
        path,
        offsets,
        destinations,
        file_nbytes=file_nbytes,
        digests=digests,
        crc32=crc32,
        fresh=fresh,
        max_inflight_nbytes=max_inflight_nbytes,
        stored=stored,
        digest_kind=digest_kind,
    )
    return downloads_of(directory).carry(ticket, partial(directory.read_into, name))


def begin_verify(
    directory: Directory,
    engine: Engine,
    name: str,
    *,
    file_nbytes: int,
    digests: bytes,
    stored: StoredChunks | None = None,
    digest_kind: str = DIGEST_NAME,
) -> ReadTicket:
    """Begins to compare all of a file with its digests; `Engine.verify` says what the arguments are.

    Raises:
        CorruptionError: `name` leads out of the directory. What is too short is one of the ticket's `wait`.
    """
    path = directory.path_of(name)
    if directory.is_local:
        return engine.verify(path, file_nbytes=file_nbytes, digests=digests, stored=stored, digest_kind=digest_kind)
    ticket = engine.verify_relayed(
        path, file_nbytes=file_nbytes, digests=digests, stored=stored, digest_kind=digest_kind
    )
    return downloads_of(directory).carry(ticket, partial(directory.read_into, name))

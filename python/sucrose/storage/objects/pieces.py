"""Bytes that lie in several places, as one part of an upload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sucrose.storage.objects.base import Bytes


def pieces_of(data: Bytes | Sequence[Bytes]) -> list[memoryview]:
    """Views of the bytes; empty ones are left out."""
    given = [data] if isinstance(data, (bytes, bytearray, memoryview)) else data
    views = (memoryview(one).cast("B") if memoryview(one).nbytes else memoryview(b"") for one in given)
    return [view for view in views if view.nbytes]


def nbytes_of(pieces: Sequence[memoryview]) -> int:
    """Bytes in all of them."""
    return sum(piece.nbytes for piece in pieces)


def copies(pieces: Sequence[memoryview], nbytes: int) -> Iterator[bytes]:
    """Copies of the bytes, a few at a time: a client may hold on to what it is given after a call is over."""
    for piece in pieces:
        for offset in range(0, piece.nbytes, nbytes):
            yield bytes(piece[offset : offset + nbytes])

"""A part of an upload as the body of a request of aiohttp's, which tells how it gets on."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Sequence
from typing import final

from sucrose.storage.objects.event_loop import Progress
from sucrose.storage.objects.pieces import copies, nbytes_of

_NBYTES = 256 << 10  # that the transport is given at a time: a stall shows after so many


@final
class PartBody:
    """What botocore takes for a file, when it signs, and aiohttp for a stream, when it sends.

    Sent from copies, a little at a time: a connection that is given up may go on sending what it was given, while
    the part's memory has long been used for something else.
    """

    def __init__(self, pieces: Sequence[memoryview], progress: Progress) -> None:
        self._pieces = pieces
        self._progress = progress
        self._nbytes = nbytes_of(pieces)
        self._offset = 0

    def __len__(self) -> int:
        return self._nbytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in copies(self._pieces, _NBYTES):
            yield piece
            self._progress.advance(len(piece))

    def tell(self) -> int:
        """Where `read` goes on."""
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Chooses where `read` goes on."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._nbytes}[whence]
        self._offset = min(max(start + offset, 0), self._nbytes)
        return self._offset

    def read(self, nbytes: int = -1) -> bytes:
        """The next bytes, for those who sign."""
        left = self._nbytes - self._offset if nbytes < 0 else nbytes
        at, found = self._offset, []
        for piece in self._pieces:
            if left and at < piece.nbytes:
                some = piece[at : at + left]
                found.append(bytes(some))
                left -= some.nbytes
                at += some.nbytes
            at -= piece.nbytes
        data = found[0] if len(found) == 1 else b"".join(found)
        self._offset += len(data)
        return data

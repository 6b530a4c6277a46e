"""Relayed operations in plain Python: `relay` says what they are.

There are no threads here: a block is made by whoever asks for it, and a request's bytes are decoded, digested and
taken to their destinations by whoever completes it.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from sucrose.engine.base import CHUNK_NBYTES, Encoding, Extents, ReadResult, Staging, StoredChunks, WriteResult
from sucrose.engine.blocks import chunks_of, crc32s_of
from sucrose.engine.frames import UndecodableError, decode_chunk, encode_chunk, offsets_of
from sucrose.engine.reference_carrying import DONE, LOST, Carried, RelayedOperation
from sucrose.engine.scattering import Scattering

if TYPE_CHECKING:
    from sucrose.engine.base import CorruptChunk
    from sucrose.engine.digests import DigestFunction, ExpectedDigests


class ReferenceRelayedWrite(RelayedOperation[WriteResult]):
    """`engine.relay.RelayedWriteTicket`. The sources are read when a block is asked for, or all at once when staged."""

    def __init__(
        self,
        name: str,
        sources: Extents,
        *,
        digest_of: DigestFunction | None,
        staging: Staging | None,
        encoding: Encoding | None,
        max_inflight_nbytes: int,
    ) -> None:
        super().__init__(name, sum(sources.nbytes), max_inflight_nbytes)
        self._sources: Extents | None = sources
        self._digest_of = digest_of
        self._encoding = encoding
        self._digests = bytearray()
        self._sizes = array("Q")
        self._groups = bytearray()
        self._read_nbytes = 0
        self._stored_nbytes = 0
        chunks: Iterable[memoryview] = chunks_of(sources)
        self._staging = "none"
        if staging is not None:
            fits = self._nbytes <= staging.budget_nbytes
            self._staging = "host" if fits else "blocking"
            chunks = [memoryview(bytes(chunk)) for chunk in chunks] if fits else chunks
        self._chunks: Iterator[memoryview] = iter(chunks)

    def next_block(self, timeout_s: float | None = None) -> Carried | None:
        """See `RelayedWriteTicket.next_block`."""
        return self._next(timeout_s)

    def staging(self) -> str:
        """``"host"`` where the budget sufficed for a copy, else ``"blocking"``; ``"none"`` where none was asked for."""
        return self._staging

    def wait_safe(self, timeout_s: float | None = None) -> None:
        """See `WriteTicket.wait_safe`."""
        if self._staging == "none":
            self.wait(timeout_s)
            return
        with self._changed:
            self._wait_until(lambda: self._staging == "host" or self._handed_out_all(), timeout_s)

    def wait_staged(self, timeout_s: float | None = None) -> None:
        """See `WriteTicket.wait_staged`."""
        self.wait_safe(timeout_s)
        self._sources = None

    def staged(self) -> bool:
        """See `WriteTicket.staged`."""
        try:
            self.wait_staged(0.0)
        except TimeoutError as error:
            if error.errno is not None:  # the carrier's own time-out, not ours
                raise
            return False
        return True

    def _handed_out_all(self) -> bool:
        return self._read_nbytes == self._nbytes

    def _hand_out(self) -> Carried:
        chunk = next(self._chunks)
        if self._digest_of is not None:
            self._digests += self._digest_of(chunk)
        data = self._encoded(chunk)
        nbytes = len(chunk)
        block = Carried(self._stored_nbytes, data, lambda _, outcome: self._given_back(outcome, nbytes))
        self._read_nbytes += nbytes
        self._stored_nbytes += len(data)
        return block

    def _encoded(self, chunk: memoryview) -> memoryview:
        if self._encoding is None:
            return memoryview(bytes(chunk))
        itemsize = self._encoding.groups[len(self._sizes)] if self._encoding.groups else 0
        frames, used_itemsize = encode_chunk(chunk, itemsize, self._encoding.level)
        self._sizes.append(len(frames))
        self._groups.append(used_itemsize)
        return memoryview(frames)

    def _conclude(self) -> WriteResult:
        stored = None
        if self._encoding is not None:
            stored = StoredChunks(sizes=self._sizes, groups=bytes(self._groups) if any(self._groups) else b"")
        self._sources = None
        return WriteResult(nbytes=self._nbytes, digests=bytes(self._digests), stored=stored)


class ReferenceRelayedRead(RelayedOperation[ReadResult]):
    """`engine.relay.RelayedReadTicket`."""

    def __init__(
        self,
        name: str,
        offsets: array[int],
        destinations: Extents,
        *,
        file_nbytes: int,
        expected: ExpectedDigests,
        crc32: bool,
        whole_file: bool,
        stored: StoredChunks | None,
        max_inflight_nbytes: int,
    ) -> None:
        self._destinations = destinations
        self._expected = expected
        self._crc32 = crc32
        self._stored = stored
        self._corrupt: list[CorruptChunk] = []
        self._scattering = Scattering(offsets, destinations)
        self._parts: deque[tuple[int, int, int]] = deque()  # (chunk, begin, end) of those to be asked for
        for begin in range(0, file_nbytes, CHUNK_NBYTES):
            chunk = begin, min(begin + CHUNK_NBYTES, file_nbytes)
            first, last = chunk if whole_file else self._scattering.wanted(*chunk)
            if first < last:
                part = chunk if stored is not None or expected.digests else (first, last)
                self._parts.append((begin // CHUNK_NBYTES, *part))
        nbytes = file_nbytes if whole_file else sum(destinations.nbytes)
        self._result_nbytes = nbytes
        super().__init__(name, sum(end - begin for _, begin, end in self._parts), max_inflight_nbytes)
        self._stored_offsets = array("Q") if stored is None else offsets_of(stored)

    def next_request(self, timeout_s: float | None = None) -> Carried | None:
        """See `RelayedReadTicket.next_request`."""
        return self._next(timeout_s)

    def _handed_out_all(self) -> bool:
        return not self._parts

    def _hand_out(self) -> Carried:
        index, begin, end = self._parts[0]
        offset, nbytes = begin, end - begin
        if self._stored is not None:
            offset, nbytes = self._stored_offsets[index], self._stored.sizes[index]

        def completed(request: Carried, outcome: int) -> None:
            with self._changed:
                try:
                    if outcome == DONE and self._error is None:
                        self._take(index, begin, end, request.data)
                except BaseException:
                    outcome = LOST
                    raise
                finally:
                    self._given_back(outcome, end - begin)

        request = Carried(offset, memoryview(bytearray(nbytes)), completed)
        self._parts.popleft()
        return request

    def _take(self, index: int, begin: int, end: int, data: memoryview) -> None:
        try:
            if self._stored is not None:
                groups = self._stored.groups
                data = memoryview(decode_chunk(data, groups[index] if groups else 0, end - begin))
            corrupt = self._expected.corrupt(index, data)
            self._scattering.take(begin, data)
        except UndecodableError as error:
            corrupt = self._expected.corrupt_as(index, f"not decodable: {error}")
        if corrupt is not None:
            self._corrupt.append(corrupt)

    def _conclude(self) -> ReadResult:
        return ReadResult(
            nbytes=self._result_nbytes,
            corrupt=sorted(self._corrupt, key=lambda corrupt: corrupt.index),
            crc32s=crc32s_of(self._destinations) if self._crc32 else (),
        )

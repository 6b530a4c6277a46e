"""Who carries the bytes of relayed operations, in tests: from a write into memory, and from there to a read."""

from __future__ import annotations

import ctypes
import threading
from array import array
from typing import TYPE_CHECKING

import torch

from sucrose.engine import Extents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sucrose.engine import Block, RelayedReadTicket, RelayedWriteTicket, Request, WriteResult

NAME = "s3://bucket/step_1/data/0_0.safetensors"


def weights(nbytes: int) -> bytes:
    """Bytes of numbers around zero."""
    generator = torch.Generator().manual_seed(nbytes)
    values = torch.randn(nbytes // 2 + 1, generator=generator).bfloat16()
    return values.view(torch.uint8).numpy().tobytes()[:nbytes]


def noise(nbytes: int) -> bytes:
    """Bytes that do not compress."""
    generator = torch.Generator().manual_seed(nbytes)
    return torch.randint(256, (nbytes,), dtype=torch.uint8, generator=generator).numpy().tobytes()


def sources_of(*pieces: bytes) -> Extents:
    """The bytes, one piece after another."""
    extents = Extents()
    for piece in pieces:
        extents.append_bytes(piece)
    return extents


def destinations_in(*buffers: bytearray) -> Extents:
    """The buffers' memory."""
    destinations = Extents(keep_alive=list(buffers))
    for buffer in buffers:
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer)) if buffer else 0
        destinations.append(address, len(buffer))
    return destinations


def offsets_of(*offsets: int) -> array[int]:
    """As a read takes them."""
    return array("Q", offsets)


def blocks_of(ticket: RelayedWriteTicket) -> Iterator[Block]:
    """All blocks that are still to come."""
    while (block := ticket.next_block(timeout_s=60)) is not None:
        yield block


def requests_of(ticket: RelayedReadTicket) -> Iterator[Request]:
    """All requests that are still to come."""
    while (request := ticket.next_request(timeout_s=60)) is not None:
        yield request


def received(ticket: RelayedWriteTicket) -> tuple[bytes, WriteResult]:
    """The stored file, carried block by block, and what the write says about it."""
    stored = bytearray()
    for block in blocks_of(ticket):
        assert block.offset == len(stored)
        assert block.data.readonly
        stored += block.data
        block.release()
    return bytes(stored), ticket.wait(timeout_s=60)


def serve(ticket: RelayedReadTicket, stored: bytes) -> None:
    """Completes all requests, one after another."""
    for request in requests_of(ticket):
        fill(request, stored)
        request.complete()


def fill(request: Request, stored: bytes) -> None:
    """Puts in what the request asks for."""
    assert len(request.data) == request.nbytes
    request.data[:] = stored[request.offset : request.offset + request.nbytes]


class Receivers:
    """Threads that carry blocks of one write side by side. `join` returns the stored file."""

    def __init__(self, ticket: RelayedWriteTicket, count: int = 3) -> None:
        self._ticket = ticket
        self._blocks: dict[int, bytes] = {}
        self.errors: list[OSError] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def join(self) -> bytes:
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive()
        return b"".join(self._blocks[offset] for offset in sorted(self._blocks))

    def _run(self) -> None:
        try:
            for block in blocks_of(self._ticket):
                self._blocks[block.offset] = bytes(block.data)
                block.release()
        except OSError as error:
            self.errors.append(error)

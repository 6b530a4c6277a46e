"""Fingerprints in pure Python: csrc/fingerprint.h says what they are.

All words of a block are one large integer, each in a slot of twice its width: a product of a word and
a factor of 64 bits then stays in its slot, and one operation of Python's does a whole block.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from sucrose.engine.base import CHUNK_NBYTES
from sucrose.engine.blocks import blocks_of

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from sucrose.engine.base import Extents

_WORD_BITS = 64
_WORD = (1 << _WORD_BITS) - 1
_SLOT_NBYTES = 16
_BLOCK_WORDS = 8192
_SHIFT = 33


class _Lane(NamedTuple):
    """Key and factors of one half of a fingerprint; kernel_bodies.h says where they come from."""

    key: int
    factor: int
    second_factor: int


_LANES = (
    _Lane(0x9E3779B97F4A7C15, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53),
    _Lane(0x6A09E667F3BCC909, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB),
)


def fingerprint_of(chunk: memoryview) -> bytes:
    """The 16 bytes for at most one chunk of memory."""
    words = -(-len(chunk) // 8)
    padded = memoryview(bytes(chunk) + bytes(8 * words - len(chunk))).cast("Q")
    halves = []
    for lane in _LANES:
        total = _mixed(len(chunk) ^ (CHUNK_NBYTES // 8 + 1) * lane.key & _WORD, lane, 1)
        sums = 0  # of all blocks, slot by slot
        for begin in range(0, words, _BLOCK_WORDS):
            sums += _mixed_block(padded[begin : begin + _BLOCK_WORDS], begin, lane)
        slots = sums.to_bytes(_SLOT_NBYTES * min(words, _BLOCK_WORDS), "little")
        total += sum(memoryview(slots).cast("Q")[::2])  # carries into the upper halves do not count
        halves.append((total & _WORD).to_bytes(8, "little"))
    return b"".join(halves)


def fingerprints_of(sources: Extents, piece_nbytes: array[int]) -> bytes:
    """See `Engine.fingerprint`; host memory only."""
    if len(piece_nbytes) != len(sources.nbytes):
        raise ValueError("there must be one size of pieces for each extent")
    if 0 in piece_nbytes:
        raise ValueError("pieces must have at least one byte")
    blocks = (block.gather() for block in blocks_of(sources))
    rest = memoryview(b"")
    found = bytearray()
    for nbytes in _chunk_sizes(sources, piece_nbytes):
        chunk = bytearray()
        while len(chunk) < nbytes:
            rest = rest or next(blocks)
            missing = nbytes - len(chunk)
            chunk += rest[:missing]
            rest = rest[missing:]
        found += fingerprint_of(memoryview(chunk))
    return bytes(found)


def _chunk_sizes(sources: Extents, piece_nbytes: array[int]) -> Iterator[int]:
    for nbytes, step in zip(sources.nbytes, piece_nbytes, strict=True):
        for piece in range(0, nbytes, step):
            end = min(piece + step, nbytes)
            for begin in range(piece, end, CHUNK_NBYTES):
                yield min(CHUNK_NBYTES, end - begin)


def _mixed_block(words: memoryview[int], position: int, lane: _Lane) -> int:
    count = len(words)
    spread = bytearray(_SLOT_NBYTES * count)
    memoryview(spread).cast("Q")[::2] = words
    offset = _in_each(1, count) * (position * lane.key & _WORD)
    keys = _keys(count, lane) + offset & _in_each(_WORD, count)
    return _mixed(int.from_bytes(spread, "little") ^ keys, lane, count)


def _mixed(words: int, lane: _Lane, count: int) -> int:
    mask = _in_each(_WORD, count)
    shifted = _in_each(_WORD >> _SHIFT, count)  # what a neighbour's low bits must not get into
    words ^= words >> _SHIFT & shifted
    words = words * lane.factor & mask
    words ^= words >> _SHIFT & shifted
    words = words * lane.second_factor & mask
    return words ^ words >> _SHIFT & shifted


@lru_cache(maxsize=16)
def _in_each(word: int, count: int) -> int:
    """`word` in each of `count` slots."""
    return int.from_bytes(word.to_bytes(_SLOT_NBYTES, "little") * count, "little")


@lru_cache(maxsize=8)
def _keys(count: int, lane: _Lane) -> int:
    """The lane's key times 1, 2, … `count`, one in each slot."""
    slots = bytearray(_SLOT_NBYTES * count)
    view = memoryview(slots).cast("Q")
    for index in range(count):
        view[2 * index] = (index + 1) * lane.key & _WORD
    return int.from_bytes(slots, "little")

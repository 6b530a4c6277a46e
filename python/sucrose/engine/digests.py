"""Digests of chunks in plain Python: 16 bytes each, of either kind."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import xxhash

from sucrose.engine.base import DIGEST_NBYTES, CorruptChunk

DigestFunction: TypeAlias = Callable[[bytes | bytearray | memoryview], bytes]

XXH3_128 = "xxh3-128"
"""XXH3-128 in the canonical (big-endian) order of xxHash: finds damage, at the speed of memory."""
SHA256_128 = "sha256-128"
"""The first 16 bytes of SHA-256: withstands a forger as well."""


def _sha256_128(data: bytes | bytearray | memoryview) -> bytes:
    return hashlib.sha256(data).digest()[:16]


_FUNCTIONS: dict[str, DigestFunction] = {XXH3_128: xxhash.xxh3_128_digest, SHA256_128: _sha256_128}


def digest_function(kind: str) -> DigestFunction:
    """What computes digests of `kind`.

    Raises:
        ValueError: there is no such kind.

    Example:
        >>> from sucrose.engine.digests import digest_function
        >>> digest_function("sha256-128")(b"abc").hex()
        'ba7816bf8f01cfea414140de5dae2223'
    """
    try:
        return _FUNCTIONS[kind]
    except KeyError:
        raise ValueError(f"digest_kind is {kind!r}; expected 'xxh3-128' or 'sha256-128'") from None


@dataclass(frozen=True, slots=True)
class ExpectedDigests:
    """Those that the chunks of a file should have."""

    digests: bytes
    """Concatenated; empty where nothing is checked."""
    digest_of: DigestFunction

    def corrupt(self, index: int, chunk: memoryview) -> CorruptChunk | None:
        """What is wrong with chunk `index`."""
        if not self.digests:
            return None
        found = self.digest_of(chunk).hex()
        return None if found == self.expected(index) else self.corrupt_as(index, found)

    def expected(self, index: int) -> str:
        """In hex; empty where nothing is checked."""
        return self.digests[index * DIGEST_NBYTES : (index + 1) * DIGEST_NBYTES].hex()

    def corrupt_as(self, index: int, found: str) -> CorruptChunk:
        """Chunk `index`, with which `found` is wrong."""
        return CorruptChunk(index=index, expected=self.expected(index), found=found)

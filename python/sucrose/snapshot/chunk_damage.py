"""What is wrong with a chunk, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sucrose.engine import CorruptChunk

_UNDECODABLE = "not decodable: "
"""How engines begin, in the place of a digest, what they say of frames that cannot be decoded."""


def chunk_damage(chunk: CorruptChunk, where: str, *, offset: int | None = None) -> str:
    """One clause, to be gone on with.

    Args:
        chunk: as an engine has found it.
        where: the file, or the value in a file, that the chunk is one of.
        offset: of the chunk, in the file before compression.

    Example:
        >>> from sucrose.engine import CorruptChunk
        >>> from sucrose.snapshot.chunk_damage import chunk_damage
        >>> chunk_damage(CorruptChunk(index=3, expected="a29b", found="1c2d"), "data/0_0.safetensors", offset=12582912)
        'chunk 3 of data/0_0.safetensors: digest 1c2d != a29b at offset 12582912'
    """
    place = "" if offset is None else f" at offset {offset}"
    reason = chunk.found.removeprefix(_UNDECODABLE)
    if reason != chunk.found:
        expected = f" (digest {chunk.expected} expected)" if chunk.expected else ""
        return f"chunk {chunk.index} of {where}{place} cannot be decoded: {reason}{expected}"
    return f"chunk {chunk.index} of {where}: digest {chunk.found} != {chunk.expected}{place}"

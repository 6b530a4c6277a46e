"""What a rank has written, on its way to rank 0."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from sucrose.formats.index import FileRecord
from sucrose.formats.manifest import Entry

if TYPE_CHECKING:
    from sucrose.ranks import Exchange

_LEVEL = 1  # paths and digests: most of what there is to gain, at little cost


class Part(msgspec.Struct):
    """The entries and files of one rank."""

    entries: dict[str, Entry]
    """As the manifest has them."""
    files: dict[str, FileRecord]
    state_dict_metadata: dict[str, dict[str, dict[str, Any]]]
    sharded_numel: dict[str, int]
    """Elements of the whole of each tensor that is spread over ranks, by path without the rank."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Part)


def gather_parts(exchange: Exchange, own: Part) -> list[Part] | None:
    """On rank 0 those of all ranks, in their order; elsewhere None.

    Raises:
        RankError: another rank has failed.
    """
    if exchange.world_size == 1:
        return [own]
    encoded = b"" if exchange.rank == 0 else zlib.compress(_encoder.encode(own), _LEVEL)
    given = exchange.gather("part", encoded)
    if given is None:
        return None
    return [own, *(_decoder.decode(zlib.decompress(part)) for part in given[1:])]

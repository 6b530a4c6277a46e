"""What a rank has written, on its way to rank 0.

A mesh of a thousand ranks is larger than all the rest of an entry: a part has each of its meshes once, and the
entries that rank 0 gets share them.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from sucrose.formats.index import FileRecord
from sucrose.formats.manifest import DTensorEntry, Entry

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


class _SentPart(msgspec.Struct, array_like=True):
    part: Part
    """In its entries there are numbers in the place of meshes."""
    meshes: list[Any]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_SentPart)


def gather_parts(exchange: Exchange, own: Part) -> list[Part] | None:
    """On rank 0 those of all ranks, in their order; elsewhere None.

    Raises:
        RankError: another rank has failed.
    """
    if exchange.world_size == 1:
        return [own]
    encoded = b"" if exchange.rank == 0 else _encoded(own)
    given = exchange.gather("part", encoded)
    if given is None:
        return None
    meshes: list[Any] = []
    for entry in own.entries.values():
        if isinstance(entry, DTensorEntry):
            entry.mesh = meshes[_number_of(entry.mesh, meshes)]
    return [own, *(_decoded(part, meshes) for part in given[1:])]


def _encoded(part: Part) -> bytes:
    meshes: list[Any] = []
    entries = {
        path: DTensorEntry(entry.shards, _number_of(entry.mesh, meshes), entry.dim_map)
        if isinstance(entry, DTensorEntry)
        else entry
        for path, entry in part.entries.items()
    }
    sent = _SentPart(msgspec.structs.replace(part, entries=entries), meshes)
    return zlib.compress(_encoder.encode(sent), _LEVEL)


def _decoded(data: bytes, meshes: list[Any]) -> Part:
    """The part, with the `meshes` that others have brought, or new ones."""
    sent = _decoder.decode(zlib.decompress(data))
    known = [meshes[_number_of(mesh, meshes)] for mesh in sent.meshes]
    for entry in sent.part.entries.values():
        if isinstance(entry, DTensorEntry):
            entry.mesh = known[entry.mesh]
    return sent.part


def _number_of(mesh: Any, meshes: list[Any]) -> int:
    """Where it is among `meshes`, to which it is added if it is new: programs have few."""
    for number, known in enumerate(meshes):
        if known is mesh or known == mesh:
            return number
    meshes.append(mesh)
    return len(meshes) - 1

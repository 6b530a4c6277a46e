"""`.snapshot_metadata`: the manifest, in torchsnapshot's schema 0.1.0.

The metadata is one JSON object with exactly `version`, `world_size` and `manifest`; the manifest
maps ``"<rank>/<logical path>"`` to entries. Containers (dict, OrderedDict, list) are entries of
their own, so that the nesting can be rebuilt. Older files are the same in YAML.
"""

from __future__ import annotations

import base64
import re
import struct
from contextlib import suppress
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from sucrose.errors import CorruptionError, FormatVersionError, UnsupportedError
from sucrose.formats.limits import MAX_ENTRIES, MAX_METADATA_NBYTES, MAX_WORLD_SIZE, MAX_YAML_NBYTES
from sucrose.formats.unique_keys import check_unique_keys

MANIFEST_VERSION = "0.1.0"
METADATA_FILE = ".snapshot_metadata"

BUFFER_PROTOCOL = "buffer_protocol"
"""Serializer of tensors whose bytes lie in a file as they lie in memory, row-major."""
BUFFER_PROTOCOL_ZSTD = "buffer_protocol_zstd"
"""The same, in a file that is compressed: byte ranges are those before compression. torchsnapshot refuses it."""
TORCH_SAVE = "torch_save"
"""Serializer of values that `torch.save` wrote."""


class _Entry(msgspec.Struct, tag_field="type", gc=False):
    @property
    def type(self) -> str:
        """Name of the entry's kind in the file."""
        return str(self.__struct_config__.tag)


class TensorEntry(_Entry, tag="Tensor"):
    """A dense tensor, in the bytes `byte_range` (begin, end) of the file `location`."""

    location: str
    serializer: str
    dtype: str
    shape: list[int]
    replicated: bool
    byte_range: tuple[int, int] | None = None


class Shard(msgspec.Struct, gc=False):
    """A rectangular part of a larger tensor, `sizes` large and beginning at `offsets`."""

    offsets: list[int]
    sizes: list[int]
    tensor: TensorEntry


class ChunkedTensorEntry(_Entry, tag="ChunkedTensor"):
    """A tensor stored in several parts, which cover it without overlaps."""

    dtype: str
    shape: list[int]
    chunks: list[Shard]
    replicated: bool


class ShardedTensorEntry(_Entry, tag="ShardedTensor"):
    """One rank's shards of a tensor that is spread over ranks."""

    shards: list[Shard]


class DTensorEntry(_Entry, tag="DTensor"):
    """One rank's shards of a DTensor; `dim_map` lists the mesh axes that each dimension is on."""

    shards: list[Shard]
    mesh: Any
    dim_map: list[list[int]]


class ObjectEntry(_Entry, tag="object"):
    """A pickled value in a file of its own."""

    location: str
    serializer: str
    obj_type: str
    replicated: bool


class DictEntry(_Entry, tag="dict"):
    """A dict; its values are the entries below this path."""

    keys: list[int | str]


class OrderedDictEntry(_Entry, tag="OrderedDict"):
    """An OrderedDict, like `DictEntry`."""

    keys: list[int | str]


class ListEntry(_Entry, tag="list"):
    """A list; its items are the entries ``<path>/0``, ``<path>/1`` and so on."""


class PrimitiveEntry(_Entry):
    """A value that stands in the manifest itself."""

    serialized_value: str
    replicated: bool
    readable: str | None = None

    @classmethod
    def from_value(cls, value: float | bool | str | bytes) -> PrimitiveEntry:
        """The entry for `value`, whose type must be exactly one of the five."""
        return _PRIMITIVES[type(value)].encode(value)

    @classmethod
    def encode(cls, value: Any) -> PrimitiveEntry:
        """Entry of this class for `value`."""
        return cls(str(value), False)

    def get_value(self) -> int | float | bool | str | bytes:
        """The value itself. Raises ValueError where its text is malformed."""
        raise ValueError(f"{self.type} is no primitive type")


class IntEntry(PrimitiveEntry, tag="int"):
    """An int, in decimal digits."""

    def get_value(self) -> int:
        return int(self.serialized_value)


class BoolEntry(PrimitiveEntry, tag="bool"):
    """``True`` or ``False``."""

    def get_value(self) -> bool:
        if self.serialized_value not in ("True", "False"):
            raise ValueError(f"{self.serialized_value!r} is neither True nor False")
        return self.serialized_value == "True"


class FloatEntry(PrimitiveEntry, tag="float"):
    """A float: base64 of its eight bytes, little-endian, so that no bit is lost."""

    @classmethod
    def encode(cls, value: float) -> FloatEntry:
        packed = base64.b64encode(struct.pack("<d", value)).decode("ascii")
        return cls(packed, False, str(value))

    def get_value(self) -> float:
        packed = base64.b64decode(self.serialized_value, validate=True)
        if len(packed) != struct.calcsize("<d"):
            raise ValueError(f"{self.serialized_value!r} is not eight bytes in base64")
        return float(struct.unpack("<d", packed)[0])


class StrEntry(PrimitiveEntry, tag="str"):
    """A str, as it is."""

    def get_value(self) -> str:
        return self.serialized_value


class BytesEntry(PrimitiveEntry, tag="bytes"):
    """Bytes, in base64."""

    @classmethod
    def encode(cls, value: bytes) -> BytesEntry:
        return cls(base64.b64encode(value).decode("ascii"), False)

    def get_value(self) -> bytes:
        return base64.b64decode(self.serialized_value, validate=True)


_PRIMITIVES: dict[type, type[PrimitiveEntry]] = {
    int: IntEntry,
    float: FloatEntry,
    bool: BoolEntry,
    str: StrEntry,
    bytes: BytesEntry,
}

Entry = (
    TensorEntry
    | ChunkedTensorEntry
    | ShardedTensorEntry
    | DTensorEntry
    | ObjectEntry
    | DictEntry
    | OrderedDictEntry
    | ListEntry
    | IntEntry
    | FloatEntry
    | BoolEntry
    | StrEntry
    | BytesEntry
)
Manifest = dict[str, Entry]


class SnapshotMetadata(msgspec.Struct, dict=True):
    """The commit record of a snapshot."""

    version: str
    world_size: int
    manifest: Manifest

    @cached_property
    def of_many_ranks(self) -> EntriesOfManyRanks:
        """What is not one rank's own; found in one pass, when somebody asks for it first."""
        return _entries_of_many_ranks(self.manifest, self.world_size)

    @property
    def shards(self) -> dict[str, list[Shard]]:
        """Of all ranks, in their order, by logical path: of tensors that are spread over ranks."""
        by_mesh = self.of_many_ranks.shards
        return {path: [shard for found in of_path.values() for shard in found] for path, of_path in by_mesh.items()}


class SharedEntry(NamedTuple):
    """An entry that other ranks may use as well."""

    rank: int
    """The lowest that has it."""
    entry: Entry


class EntriesOfManyRanks(msgspec.Struct):
    """What is not one rank's own."""

    shared: dict[str, SharedEntry]
    """Containers, replicated values and those that are spread over ranks, by logical path."""
    shards: dict[str, dict[str, list[Shard]]]
    """Of all ranks, in their order, by logical path and mesh: each mesh has the whole tensor."""


_CONTAINERS = frozenset({DictEntry, OrderedDictEntry, ListEntry})


def _entries_of_many_ranks(manifest: Manifest, world_size: int) -> EntriesOfManyRanks:
    shared: dict[str, SharedEntry] = {}
    spread: dict[str, list[tuple[int, str, list[Shard]]]] = {}
    ranks = {str(rank): rank for rank in range(world_size)}
    names: dict[int, str] = {}  # of meshes: the entries of a take share theirs
    for path, entry in manifest.items():
        prefix, _, logical = path.partition("/")
        rank = ranks.get(prefix)
        if rank is None:
            continue
        if isinstance(entry, (DTensorEntry, ShardedTensorEntry)):
            mesh = ""
            if isinstance(entry, DTensorEntry):
                mesh = names.get(id(entry.mesh)) or names.setdefault(id(entry.mesh), str(entry.mesh))
            of_path = spread.get(logical)
            if of_path is None:
                of_path = spread[logical] = []
            of_path.append((rank, mesh, entry.shards))
        elif type(entry) not in _CONTAINERS and not getattr(entry, "replicated", False):
            continue
        known = shared.get(logical)
        if known is None or rank < known.rank:
            shared[logical] = SharedEntry(rank, entry)
    return EntriesOfManyRanks(shared, {path: _by_mesh(of_path) for path, of_path in spread.items()})


def _by_mesh(of_ranks: list[tuple[int, str, list[Shard]]]) -> dict[str, list[Shard]]:
    found: dict[str, list[Shard]] = {}
    for _, mesh, shards in sorted(of_ranks, key=itemgetter(0)):
        found.setdefault(mesh, []).extend(shards)
    return found


class _Version(msgspec.Struct):
    version: str


# What JSON has and YAML has not, or takes for a line break.
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(SnapshotMetadata)
_version_decoder = msgspec.json.Decoder(_Version)


def encode_metadata(metadata: SnapshotMetadata) -> bytes:
    """JSON that torchsnapshot reads too, with a parser for YAML.

    Raises:
        UnsupportedError: it would be larger than what is read.
    """
    encoded = _encode(metadata)
    if len(metadata.manifest) > MAX_ENTRIES or len(encoded) > MAX_METADATA_NBYTES:
        raise UnsupportedError(
            f"{len(metadata.manifest)} values take {len(encoded)} bytes of metadata; at most {MAX_ENTRIES} values and "
            f"{MAX_METADATA_NBYTES} bytes are read again: put small values together in tensors"
        )
    return encoded


def _encode(metadata: SnapshotMetadata) -> bytes:
    encoded = _encoder.encode(metadata)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return _NOT_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded.decode()).encode()


def decode_metadata(data: bytes, *, path: str) -> SnapshotMetadata:
    """Parses JSON, or the YAML of older releases.

    Args:
        data: contents of the file.
        path: where they come from, for messages.

    Raises:
        CorruptionError: not the metadata of a snapshot.
        FormatVersionError: a newer schema than 0.1.x.
    """
    try:
        metadata = _decoder.decode(data)
        check_unique_keys(data, _encode(metadata))
    except (ValueError, RecursionError) as error:
        if data.lstrip().startswith(b"{"):  # JSON: broken, or with entries of a later version
            with suppress(ValueError, RecursionError):
                _check_version(_version_decoder.decode(data).version, path)
            raise CorruptionError(f"{path} is not the metadata of a snapshot: {error}", path=path) from error
        metadata = _decode_yaml(data, path)
    _check_version(metadata.version, path)
    if not 1 <= metadata.world_size <= MAX_WORLD_SIZE or len(metadata.manifest) > MAX_ENTRIES:
        raise CorruptionError(
            f"{path} is not the metadata of a snapshot: {metadata.world_size} ranks with {len(metadata.manifest)} "
            f"entries, at most {MAX_WORLD_SIZE} and {MAX_ENTRIES} are possible",
            path=path,
        )
    return metadata


def _check_version(version: str, path: str) -> None:
    if not version.startswith("0.1."):
        raise FormatVersionError(
            f"{path}: manifest version {version!r}, this release reads 0.1.x: restore it with a newer torch-sucrose",
            path=path,
        )


def _decode_yaml(data: bytes, path: str) -> SnapshotMetadata:
    from sucrose.formats.old_metadata import parse_yaml

    try:
        if len(data) > MAX_YAML_NBYTES:
            raise ValueError(f"{len(data)} bytes of YAML, at most {MAX_YAML_NBYTES} are read")
        return msgspec.convert(parse_yaml(data), SnapshotMetadata)
    except (ValueError, RecursionError) as error:
        raise CorruptionError(f"{path} is not the metadata of a snapshot: {error}", path=path) from error

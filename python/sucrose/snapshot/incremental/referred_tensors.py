"""Tensors that lie in files of other snapshots: where, and where they go instead. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, NamedTuple

import msgspec

from sucrose.formats.manifest import (
    BUFFER_PROTOCOL,
    ChunkedTensorEntry,
    DTensorEntry,
    Entry,
    ShardedTensorEntry,
    SnapshotMetadata,
    TensorEntry,
)
from sucrose.formats.safetensors import HeaderEntry, encode_header
from sucrose.snapshot.entries import check_tensor_entry
from sucrose.snapshot.plan import order_by_alignment, split_into_files
from sucrose.snapshot.tensors import DTYPES, ITEMSIZES


class Place(NamedTuple):
    """Bytes [begin, end) of a file."""

    location: str
    begin: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A data file to be written: its header, then the bytes at `places`, one after another."""

    name: str
    header: bytes
    places: list[Place]

    @property
    def nbytes(self) -> int:
        """Of all of it."""
        return len(self.header) + sum(place.end - place.begin for place in self.places)

    def ranges(self) -> list[tuple[str, int, int]]:
        """(location, offset, nbytes) of all places."""
        return [(place.location, place.begin, place.end - place.begin) for place in self.places]

    def moved(self) -> dict[Place, Place]:
        """Where the bytes of each place are in this file."""
        found = {}
        begin = len(self.header)
        for place in self.places:
            end = begin + place.end - place.begin
            found[place] = Place(self.name, begin, end)
            begin = end
        return found


def referred_places(metadata: SnapshotMetadata) -> dict[Place, HeaderEntry]:
    """What lies in other snapshots, each range once, with the name and shape that a file's header shall have.

    Raises:
        CorruptionError: an entry contradicts itself.
    """
    places: dict[Place, HeaderEntry] = {}
    names: set[str] = set()
    for path, tensor in _tensors(metadata):
        check_tensor_entry(path, tensor)
        place = place_of(tensor)
        if place.location.startswith("../") and place not in places:
            name = path.partition("/")[2]
            if name in names:  # another piece of the same tensor
                name = f"{name}[{len(places)}]"
            while name in names:
                name += "'"
            names.add(name)
            places[place] = HeaderEntry(name, tensor.dtype, tensor.shape, place.end - place.begin)
    return places


def plan_new_files(places: Mapping[Place, HeaderEntry], taken: set[str], max_file_nbytes: int) -> list[NewFile]:
    """Files for all places, under names that are not `taken`."""
    in_order = list(places)
    itemsizes = [ITEMSIZES[DTYPES[places[place].dtype]] for place in in_order]
    in_order = [in_order[index] for index in order_by_alignment(itemsizes)]
    names = (f"data/0_{number}.safetensors" for number in count())
    free = (name for name in names if name not in taken and f"{name}.zst" not in taken)
    remaining = iter(in_order)
    groups = split_into_files([places[place] for place in in_order], max_file_nbytes=max_file_nbytes)
    return [
        NewFile(name=next(free), header=encode_header(headers), places=list(islice(remaining, len(headers))))
        for headers in groups
    ]


def with_places(metadata: SnapshotMetadata, moved: Mapping[Place, Place]) -> SnapshotMetadata:
    """The same manifest, with the bytes where they were moved to, uncompressed."""

    def relocated(tensor: TensorEntry) -> TensorEntry:
        place = moved.get(place_of(tensor)) if tensor.location.startswith("../") else None
        if place is None:
            return tensor
        location, begin, end = place
        return msgspec.structs.replace(tensor, location=location, serializer=BUFFER_PROTOCOL, byte_range=(begin, end))

    def entry(value: Entry) -> Entry:
        if isinstance(value, TensorEntry):
            return relocated(value)
        for name in ("chunks", "shards"):
            parts: list[Any] | None = getattr(value, name, None)
            if parts is not None:
                changed = [msgspec.structs.replace(part, tensor=relocated(part.tensor)) for part in parts]
                return msgspec.structs.replace(value, **{name: changed})
        return value

    return msgspec.structs.replace(metadata, manifest={path: entry(value) for path, value in metadata.manifest.items()})


def place_of(tensor: TensorEntry) -> Place:
    """Where its bytes lie."""
    nbytes = math.prod(tensor.shape) * ITEMSIZES[DTYPES[tensor.dtype]]
    begin, end = tensor.byte_range or (0, nbytes)
    return Place(tensor.location, begin, end)


def _tensors(metadata: SnapshotMetadata) -> Iterator[tuple[str, TensorEntry]]:
    for path, entry in metadata.manifest.items():
        if isinstance(entry, TensorEntry):
            yield path, entry
        elif isinstance(entry, ChunkedTensorEntry):
            yield from ((path, part.tensor) for part in entry.chunks)
        elif isinstance(entry, (ShardedTensorEntry, DTensorEntry)):
            yield from ((path, part.tensor) for part in entry.shards)

"""What the metadata of `torch.distributed.checkpoint` says, field by field checked, as records of our own.

Its pickle may have put anything into any field, and several names in the same place. What is in here names files by
text, lies in them without overlaps, and makes up tensors exactly: so a folder yields no more bytes than it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, MetadataIndex, TensorStorageMetadata

from sucrose.errors import CorruptionError
from sucrose.formats.limits import MAX_DIMENSION, MAX_NDIM, MAX_NESTING, MAX_TENSOR_NBYTES
from sucrose.snapshot.tensors import ITEMSIZES, dense_nbytes
from sucrose.snapshot.tiling import tiles

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.distributed.checkpoint.metadata import Metadata

_MALFORMED = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError)
"""What looking at a field raises that is not what it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a `torch.save` file lies.

    Attributes:
        file: its name in the folder; not looked at.
        offset: in that file, from 0.
        nbytes: of it.
        transforms: what it went through, in words; empty where it lies there as it is.
    """

    file: str
    offset: int
    nbytes: int
    transforms: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a tensor, and where it is; None where nothing was stored."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    place: Place | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRecord:
    """A tensor; the pieces cover each of its elements once."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRecord:
    """Any other value, and where it is; None where nothing was stored."""

    place: Place | None


Record: TypeAlias = TensorRecord | ObjectRecord


def checked_records(metadata: Metadata, path: str) -> dict[str, Record]:
    """The values by their flat names.

    Args:
        metadata: as it was unpickled.
        path: of the folder, for messages.

    Raises:
        CorruptionError: a field is not what it should be, or bytes would be read twice.
    """
    try:
        places = {
            (index.fqn, None if index.offset is None else _numbers(index.offset)): _place(place)
            for index, place in metadata.storage_data.items()
            if isinstance(index, MetadataIndex)
        }
        found = {_text(name): _record(name, given, places) for name, given in metadata.state_dict_metadata.items()}
    except _MALFORMED as error:
        raise CorruptionError(f"{path}: its metadata makes no sense: {error!r}", path=path) from error
    _check_overlaps(places.values(), path)
    return found


def checked_keys(metadata: Metadata, path: str) -> dict[str, tuple[str | int, ...]]:
    """For each flat name the keys that lead to it.

    Raises:
        CorruptionError: they are none, or too many.
    """
    given = metadata.planner_data
    mapping = given if isinstance(given, dict) else {}
    keys = {}
    for name in metadata.state_dict_metadata:
        found = mapping.get(name, (name,))
        if not isinstance(found, tuple) or not found or not all(type(key) in (str, int) for key in found):
            raise CorruptionError(f"{path}: {name!r} lies at {found!r}, which is no path of keys", path=path, key=name)
        if len(found) > MAX_NESTING:
            raise CorruptionError(
                f"{path}: {name!r} lies {len(found)} levels deep, at most {MAX_NESTING} are read", path=path, key=name
            )
        keys[name] = found
    return keys


def _record(name: str, given: Any, places: dict[tuple[str, tuple[int, ...] | None], Place]) -> Record:
    if isinstance(given, BytesStorageMetadata):
        return ObjectRecord(place=places.get((name, None)))
    if not isinstance(given, TensorStorageMetadata):
        raise TypeError(f"{name!r} is a {type(given).__name__}")
    dtype, shape = given.properties.dtype, _numbers(given.size)
    if dtype not in ITEMSIZES or dense_nbytes(dtype, list(shape)) > MAX_TENSOR_NBYTES:
        raise ValueError(f"{name!r} cannot be {dtype} {list(shape)}")
    pieces = tuple(
        Piece(
            offsets=_numbers(part.offsets), sizes=_numbers(part.sizes), place=places.get((name, _numbers(part.offsets)))
        )
        for part in given.chunks
    )
    for piece in pieces:
        _check_piece(name, piece, dtype, shape)
    if not tiles(shape, [(piece.offsets, piece.sizes) for piece in pieces]):
        raise ValueError(f"the pieces of {name!r} do not cover {list(shape)} exactly")
    return TensorRecord(dtype=dtype, shape=shape, pieces=pieces)


def _check_piece(name: str, piece: Piece, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    fits = len(piece.offsets) == len(piece.sizes) == len(shape) and all(
        offset + size <= limit for offset, size, limit in zip(piece.offsets, piece.sizes, shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name!r} is {list(shape)}, and has a piece of {piece.sizes} at {piece.offsets}")
    nbytes = dense_nbytes(dtype, list(piece.sizes))
    if piece.place is not None and not piece.place.transforms and piece.place.nbytes < nbytes:
        raise ValueError(f"a piece of {name!r} has {nbytes} bytes, and lies in {piece.place.nbytes}")


def _place(given: Any) -> Place:
    transforms = getattr(given, "transform_descriptors", None)
    offset, nbytes = given.offset, given.length
    if not all(type(number) is int and 0 <= number <= MAX_TENSOR_NBYTES for number in (offset, nbytes)):
        raise ValueError(f"nothing can lie at {offset!r}, {nbytes!r} bytes long")
    return Place(
        file=_text(given.relative_path), offset=offset, nbytes=nbytes, transforms=repr(transforms) if transforms else ""
    )


def _check_overlaps(places: Iterable[Place], path: str) -> None:
    ends: dict[str, int] = {}
    for place in sorted(places, key=lambda place: place.offset):
        if place.offset < ends.get(place.file, 0):
            raise CorruptionError(
                f"{path}: two values lie at offset {place.offset} of {place.file!r}: they overlap",
                path=path,
                offset=place.offset,
            )
        ends[place.file] = place.offset + place.nbytes


def _text(given: Any) -> str:
    if type(given) is not str:
        raise TypeError(f"{given!r} is no name")
    return given


def _numbers(given: Any) -> tuple[int, ...]:
    numbers = tuple(given)
    if len(numbers) > MAX_NDIM or not all(type(number) is int and 0 <= number <= MAX_DIMENSION for number in numbers):
        raise ValueError(f"{numbers[:MAX_NDIM]} are no sizes")
    return numbers

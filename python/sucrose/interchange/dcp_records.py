"""What the metadata of `torch.distributed.checkpoint` says, field by field checked, as records of our own.

Its pickle may have put anything into any field, and several names in the same place. What is in here names files by
text, lies in them without overlaps, and makes up tensors exactly: so a folder yields no more bytes than it has.

A list that holds another list twice, sixty times over, is short in the pickle and endless as text. So no message shows
a value of which nothing is known, and what several names share is not looked at once for each of them.
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

_MORE_CHARACTERS = 4096
"""That the keys to a value may have beyond those of its name, as planners of others may have called it anything."""
_SHOWN_TRANSFORMS = 4
_SHOWN_CHARACTERS = 60
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
            (_text(index.fqn), None if index.offset is None else _numbers(index.offset)): _place(place)
            for index, place in metadata.storage_data.items()
            if isinstance(index, MetadataIndex)
        }
        _check_shared_pieces(metadata.state_dict_metadata.values())
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
        if type(name) is not str:
            raise CorruptionError(f"{path}: a value's name is a {type(name).__name__}", path=path)
        found = mapping.get(name, (name,))
        if not isinstance(found, tuple) or not found or not all(type(key) in (str, int) for key in found):
            raise CorruptionError(f"{path}: where {name!r} lies is no path of keys", path=path, key=name)
        if len(found) > MAX_NESTING:
            raise CorruptionError(
                f"{path}: {name!r} lies {len(found)} levels deep, at most {MAX_NESTING} are read", path=path, key=name
            )
        _check_size(name, found, path)
        keys[name] = found
    return keys


def _check_size(name: str, keys: tuple[str | int, ...], path: str) -> None:
    """Names are made of their keys: much longer ones are shared, and each would be written out anew."""
    numbers = [key for key in keys if isinstance(key, int)]
    characters = sum(len(key) for key in keys if isinstance(key, str))
    if characters > len(name) + _MORE_CHARACTERS or not all(abs(number) <= MAX_DIMENSION for number in numbers):
        raise CorruptionError(f"{path}: the keys of {name!r} are too large", path=path, key=name)


def _record(name: str, given: Any, places: dict[tuple[str, tuple[int, ...] | None], Place]) -> Record:
    if isinstance(given, BytesStorageMetadata):
        return ObjectRecord(place=places.get((name, None)))
    if not isinstance(given, TensorStorageMetadata):
        raise TypeError(f"{name!r} is a {type(given).__name__}")
    dtype, shape = given.properties.dtype, _numbers(given.size)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"the dtype of {name!r} is a {type(dtype).__name__}")
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
    offset, nbytes = given.offset, given.length
    if type(offset) is not int or type(nbytes) is not int:
        raise TypeError(f"something lies at a {type(offset).__name__}, and has a {type(nbytes).__name__} of bytes")
    if not (0 <= offset <= MAX_TENSOR_NBYTES and 0 <= nbytes <= MAX_TENSOR_NBYTES):
        raise ValueError(f"nothing can lie at {offset}, {nbytes} bytes long")
    transforms = _transforms(getattr(given, "transform_descriptors", None))
    return Place(file=_text(given.relative_path), offset=offset, nbytes=nbytes, transforms=transforms)


def _transforms(given: Any) -> str:
    """In words; the first ones, where there are many."""
    if given is None:
        return ""
    if type(given) not in (list, tuple):
        raise TypeError(f"transforms are a {type(given).__name__}")
    shown = [_text(each)[:_SHOWN_CHARACTERS] for each in given[:_SHOWN_TRANSFORMS]]
    return ", ".join(map(repr, shown))


def _check_shared_pieces(values: Iterable[Any]) -> None:
    """Refuses lists of pieces that several tensors have: a short file would speak for billions of them."""
    seen: set[int] = set()
    for given in values:
        if isinstance(given, TensorStorageMetadata) and len(given.chunks) > 1:
            if id(given.chunks) in seen:
                raise ValueError("two tensors have one list of pieces")
            seen.add(id(given.chunks))


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
        raise TypeError(f"a {type(given).__name__} is no name")
    return given


def _numbers(given: Any) -> tuple[int, ...]:
    numbers = tuple(given) if len(given) <= MAX_NDIM else (-1,)
    if not all(type(number) is int and 0 <= number <= MAX_DIMENSION for number in numbers):
        raise ValueError("sizes or offsets are no whole numbers from 0, or too many")
    return numbers

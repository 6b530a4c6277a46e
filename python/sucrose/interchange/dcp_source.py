"""Reading a folder of `torch.distributed.checkpoint`, tensor by tensor, without a process group.

Each tensor lies in pieces, as its shards were; each piece is a `torch.save` file inside of a larger file. They are
loaded by torch's rules of `weights_only`, and put together in memory.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from sucrose.errors import CorruptionError, UnsafeObjectError, UnsupportedError
from sucrose.interchange.dcp_metadata import read_metadata
from sucrose.interchange.dcp_records import ObjectRecord, TensorRecord, checked_keys, checked_records
from sucrose.interchange.kinds import DCP_METADATA_FILE, Kind
from sucrose.interchange.listing import Listed, tensor_nbytes
from sucrose.interchange.trees import below, leaves_of, listed_value
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.objects import load_object
from sucrose.snapshot.tensors import empty_like_entry
from sucrose.storage import LocalDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.distributed.checkpoint.metadata import Metadata

    from sucrose.interchange.dcp_records import Piece, Place, Record


class DcpSource:
    """All ranks' values: what they have sharded comes out whole."""

    kind = Kind.DCP

    def __init__(self, path: str, *, allow_pickle: bool) -> None:
        self.path = path
        self._allow_pickle = allow_pickle
        self._folder = LocalDirectory(path)

    @cached_property
    def _metadata(self) -> Metadata:
        return read_metadata(os.path.join(self.path, DCP_METADATA_FILE), allow_pickle=self._allow_pickle)

    @cached_property
    def _records(self) -> dict[str, Record]:
        return checked_records(self._metadata, self.path)

    @cached_property
    def _keys(self) -> dict[str, tuple[str | int, ...]]:
        """For each flat name the keys that lead to it."""
        return checked_keys(self._metadata, self.path)

    @cached_property
    def _values(self) -> tuple[dict[str, Listed], dict[str, str], dict[str, Any]]:
        """What is listed, the flat names of tensors and of objects that are not let in, and all other values.

        Lists without tensors are objects in the file. They are loaded for the listing: so paths are those that the
        same state has in another kind of checkpoint.
        """
        entries: dict[str, Listed] = {}
        names: dict[str, str] = {}
        values: dict[str, Any] = {}
        for name, keys in self._keys.items():
            path = "/".join(map(encode_key, keys))
            record = self._records[name]
            if isinstance(record, TensorRecord):
                dtype, shape = str(record.dtype), record.shape
                nbytes = tensor_nbytes(dtype, shape)
                entries[path] = Listed(path=path, type="Tensor", dtype=dtype, shape=shape, nbytes=nbytes)
                names[path] = name
                continue
            try:
                value = self._value(name)
            except UnsafeObjectError:
                entries[path] = Listed(path=path, type="object")
                names[path] = name
                continue
            for inner, leaf in leaves_of(value).items():
                full = f"{path}/{inner}" if inner else path
                entries[full] = listed_value(full, leaf)
                values[full] = leaf
        return entries, names, values

    def entries(self) -> Mapping[str, Listed]:
        return self._values[0]

    def read(self, paths: Sequence[str]) -> list[Any]:
        _, names, values = self._values
        return [self._value(names[path]) if path in names else values[path] for path in paths]

    def tree(self, key: str | None = None) -> Any:
        builder = _Tree()
        for name, keys in self._keys.items():
            if key is None or keys[0] == key:
                builder.add(keys, self._value(name), self.path)
        return below(builder.tree(), key, self.path)

    def notes(self) -> list[str]:
        return []

    def _value(self, name: str) -> Any:
        record = self._records[name]
        if isinstance(record, ObjectRecord):
            data, path = self._stored(name, record.place)
            return load_object(data, key=name, path=path, allow_pickle=self._allow_pickle)
        whole = empty_like_entry(record.dtype, list(record.shape), name)
        for piece in record.pieces:
            region = whole
            for dim, (offset, size) in enumerate(zip(piece.offsets, piece.sizes, strict=True)):
                region = region.narrow(dim, offset, size)
            region.copy_(self._piece(name, piece, record.dtype))
        return whole

    def _piece(self, name: str, piece: Piece, dtype: torch.dtype) -> torch.Tensor:
        data, path = self._stored(name, piece.place)
        part = load_object(data, key=name, path=path, allow_pickle=False)
        is_dense = isinstance(part, torch.Tensor) and part.layout is torch.strided and part.device.type == "cpu"
        if not is_dense or tuple(part.shape) != piece.sizes or part.dtype != dtype:
            raise CorruptionError(
                f"{path}: {name!r} is not the tensor of {dtype} {list(piece.sizes)} that the metadata tells of",
                path=path,
                key=name,
            )
        return part.detach()  # type: ignore[no-any-return]

    def _stored(self, name: str, place: Place | None) -> tuple[bytes, str]:
        if place is None:
            raise CorruptionError(f"{self.path}: nothing is stored of {name!r}", path=self.path, key=name)
        path = self._folder.path_of(place.file)
        if place.transforms:
            raise UnsupportedError(
                f"{path}: {name!r} went through {place.transforms}, which is not known here; load it with "
                "torch.distributed.checkpoint",
                path=path,
                key=name,
            )
        return self._folder.read_part(place.file, place.offset, place.nbytes), path


class _Tree:
    """Containers from paths of keys: an int among them is a place in a list."""

    def __init__(self) -> None:
        self._root: dict[str | int, Any] = {}

    def add(self, keys: tuple[str | int, ...], value: Any, path: str) -> None:
        """Puts a value where the keys lead to."""
        at = self._root
        for key in keys[:-1]:
            at = at.setdefault(key, _Level())
            if type(at) is not _Level:
                raise CorruptionError(f"{path}: {keys} lies below a value", path=path, key=str(keys))
        if keys[-1] in at:
            raise CorruptionError(f"{path}: two values lie at {keys}", path=path, key=str(keys))
        at[keys[-1]] = value

    def tree(self) -> Any:
        """Dicts, and lists where all keys are places without a gap."""
        return {key: _plain(value) for key, value in self._root.items()}


class _Level(dict[str | int, Any]):
    """A container of ours: a value that is a dict is none."""


def _plain(value: Any) -> Any:
    if type(value) is not _Level:
        return value
    if all(type(key) is int for key in value) and sorted(value) == list(range(len(value))):
        return [_plain(value[number]) for number in range(len(value))]
    return {key: _plain(part) for key, part in value.items()}

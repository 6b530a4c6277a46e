"""Leaves that are neither tensors nor primitives, as `torch.save` files."""

from __future__ import annotations

import io
import pickle
from typing import Any
from urllib.parse import quote

import torch

from sucrose.errors import CorruptionError, UnsafeObjectError, UnsupportedError
from sucrose.formats.pickle_limits import PICKLE_MAGIC, PICKLES_BEFORE_STORAGES, check_pickle
from sucrose.formats.torch_zip_directory import head_nbytes, locate, looks_like_zip, read_directory, read_member
from sucrose.snapshot.torch_unpickle import BROKEN_PICKLE

_MAX_NAME_NBYTES = 200  # of a path segment; file systems allow 255
_MAX_TAGGED_PATH_NBYTES = 400  # stores allow 1024 for the whole key
_MAX_PATH_NBYTES = 1000  # of all segments; systems allow 4096 for the whole path


def dump_object(value: Any, key: str) -> bytes:
    """Pickles `value`, which stands at the logical path `key`.

    Raises:
        UnsupportedError: it cannot be pickled.
    """
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
    except (pickle.PicklingError, TypeError, AttributeError, RuntimeError) as error:
        raise UnsupportedError(
            f"{key!r} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be pickled: {error}",
            key=key,
        ) from error
    return buffer.getvalue()


def load_object(data: bytes, *, key: str, path: str, allow_pickle: bool) -> Any:
    """The inverse of `dump_object`.

    Args:
        data: contents of the file.
        key: logical path of the value, for messages.
        path: the file, for messages.
        allow_pickle: whether the pickle may run code. Without it only types that torch holds for
            harmless are restored.

    Raises:
        UnsafeObjectError: the value needs `allow_pickle`.
        CorruptionError: not a torch.save file.
    """
    _check_file(data, path, is_trusted=allow_pickle)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=not allow_pickle)
    except pickle.UnpicklingError as error:
        if allow_pickle:
            raise CorruptionError(f"{path}: {key!r} is no pickle: {error}", path=path, key=key) from error
        raise UnsafeObjectError(
            f"{path}: {key!r} is more than tensors and plain values, and unpickling it could run "
            "any code. If you trust whoever wrote the snapshot, pass allow_pickle=True, or allow "
            f"its type with torch.serialization.add_safe_globals. ({_first_line(error)})",
            path=path,
            key=key,
        ) from error
    except BROKEN_PICKLE as error:
        if allow_pickle and not isinstance(error, (RuntimeError, EOFError)):
            raise  # of a class of the program
        raise CorruptionError(
            f"{path}: {key!r} is not a file of torch.save: {_first_line(error)}", path=path, key=key
        ) from error


def _check_file(data: bytes, path: str, *, is_trusted: bool) -> None:
    """Refuses what torch would not: it inflates compressed records, to whatever length they say.

    Raises:
        CorruptionError: not a file that torch.save writes.
    """

    def read_at(offset: int, nbytes: int) -> bytes:
        return data[offset : offset + nbytes]

    if looks_like_zip(read_at, len(data)):
        members = read_directory(read_at, len(data), path)
        for member in members:
            locate(member, read_at(member.header_offset, head_nbytes(member)), path)
        pickles = [member for member in members if member.name.endswith("/data.pkl")]
        for member in [] if is_trusted else pickles:
            check_pickle(read_member(read_at, member, path, verify=False), path)
    elif not data.startswith(PICKLE_MAGIC):
        raise CorruptionError(f"{path} was not written by torch.save.", path=path)
    elif not is_trusted:
        check_pickle(data, path, count=PICKLES_BEFORE_STORAGES)


def object_location(logical_path: str, digest: bytes, tag: str = "") -> str:
    """File for the object at ``"<rank>/<path>"``, relative to the snapshot; with the tag of a take to an object store.

    A path that a file system might refuse, or read as something else, becomes its digest. So does one that would be
    too long for a key, or have characters in it that listings of objects cannot show.
    """
    segments = logical_path.split("/")
    max_nbytes = _MAX_TAGGED_PATH_NBYTES if tag else _MAX_PATH_NBYTES
    plain = (
        len(logical_path.encode()) <= max_nbytes
        and (not tag or logical_path.isprintable())
        and all(
            segment not in ("", ".", "..") and "\0" not in segment and len(segment.encode()) <= _MAX_NAME_NBYTES
            for segment in segments
        )
    )
    rank = quote(segments[0], safe="")
    folder = f"objects/{tag}" if tag else "objects"
    return f"{folder}/{logical_path}" if plain else f"{folder}/{rank}/{digest.hex()}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]

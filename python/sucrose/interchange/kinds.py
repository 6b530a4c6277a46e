"""Which kind of checkpoint a path is: by its contents where it exists, by its name where it does not."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from enum import Enum
from itertools import islice

from sucrose.catalog.names import is_generation_name
from sucrose.errors import ConfigError, IncompleteSnapshotError, ObjectNotFoundError, UnsupportedError
from sucrose.formats.limits import MAX_HEADER_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.torch_zip import END_MAGIC, LOCAL_MAGIC
from sucrose.storage import Directory, is_url, local_path, location_of, open_directory
from sucrose.storage.objects.missing_bucket import no_such_bucket

DCP_METADATA_FILE = ".metadata"
_SUFFIXES = {".safetensors": "safetensors", ".pt": "torch", ".pth": "torch", ".bin": "torch", ".ckpt": "torch"}
_PICKLE_MAGIC = b"\x80"
_MAX_LOOKED_AT = 1000
"""Names in a folder, which may be a bucket with millions of them."""
_MIN_SAFETENSORS_NBYTES = 9
"""The header's length and the brace that it begins with."""


class Kind(str, Enum):
    """A kind of checkpoint; the value is what ``--to`` takes."""

    SNAPSHOT = "snapshot"
    SAFETENSORS = "safetensors"
    TORCH = "torch"
    """A file of `torch.save`."""
    DCP = "dcp"
    """A folder of `torch.distributed.checkpoint`."""

    @property
    def words(self) -> str:
        """As a sentence has it."""
        return _WORDS[self.value]


_WORDS = {
    "snapshot": "a snapshot",
    "safetensors": "a safetensors file",
    "torch": "a file of torch.save",
    "dcp": "a folder of torch.distributed.checkpoint",
}


def recognize(path: str | os.PathLike[str]) -> Kind:
    """The kind of what lies at `path`, whatever it is called.

    Raises:
        IncompleteSnapshotError: a folder without a commit record.
        UnsupportedError: a file of another kind.
        OSError: it cannot be read.

    Example:
        >>> import sucrose, torch
        >>> from sucrose.interchange.kinds import recognize
        >>> sucrose.save({"weight": torch.ones(3)}, "/tmp/weights.backup")
        >>> recognize("/tmp/weights.backup").value
        'torch'
    """
    if is_url(path):
        return _recognize_at_url(location_of(path), open_directory(path))
    name = local_path(path)
    if os.path.isdir(name):
        if os.path.lexists(os.path.join(name, METADATA_FILE)):
            return Kind.SNAPSHOT
        if os.path.isfile(os.path.join(name, DCP_METADATA_FILE)):
            return Kind.DCP
        raise IncompleteSnapshotError(
            errno.ENOENT,
            f"neither a snapshot nor {Kind.DCP.words}: it has neither {METADATA_FILE} nor {DCP_METADATA_FILE}"
            f"{_catalog_hint(name)}",
            name,
            path=name,
        )
    return _recognize_file(name)


def check_snapshot(path: str | os.PathLike[str]) -> None:
    """Refuses what is none.

    Raises:
        UnsupportedError: it is something else.
        IncompleteSnapshotError: a folder without a commit record, such as a catalog's.
    """
    kind = recognize(path)
    if kind is not Kind.SNAPSHOT:
        raise UnsupportedError(f"{location_of(path)} is {kind.words}, and no snapshot", path=location_of(path))


def _catalog_hint(path: str) -> str:
    """What to do with the folder of a catalog, as far as names in it tell that it is one."""
    name = next(filter(is_generation_name, islice(_names_in(path), _MAX_LOOKED_AT)), None)
    if name is None:
        return ""
    return f". It looks like a catalog, whose snapshots 'sucrose ls {path}' lists; one of them is {name}"


def _names_in(path: str) -> Iterator[str]:
    """None where they may not be listed: who may read files need not be allowed to do that.

    Raises:
        ObjectNotFoundError: a store has no such bucket.
    """
    try:
        if not is_url(path):
            yield from os.listdir(path)
            return
        from sucrose.storage.objects.shared import shared_storage

        yield from shared_storage(path).folders()
    except ObjectNotFoundError:
        raise
    except OSError:
        return


def _recognize_at_url(url: str, directory: Directory) -> Kind:
    """Of what lies in object stores only snapshots are read."""
    for file, kind in ((METADATA_FILE, Kind.SNAPSHOT), (DCP_METADATA_FILE, Kind.DCP)):
        try:
            directory.size(file)
        except FileNotFoundError:
            continue
        if kind is Kind.SNAPSHOT:
            return kind
        raise UnsupportedError(
            f"{url} is {kind.words}, and in object stores only snapshots are read: copy it to a folder of this machine",
            path=url,
        )
    why = f"there is no {METADATA_FILE} below this URL, and in object stores only snapshots are read"
    try:
        why += _catalog_hint(url)
    except ObjectNotFoundError:
        why = no_such_bucket(url) or why
    raise IncompleteSnapshotError(errno.ENOENT, f"no snapshot: {why}", url, path=url)


def _recognize_file(name: str) -> Kind:
    with open(name, "rb", opener=_without_waiting) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise UnsupportedError(f"{name} is no regular file, and so no checkpoint", path=name)
        nbytes = info.st_size
        head = file.read(_MIN_SAFETENSORS_NBYTES)
        file.seek(max(0, nbytes - 22))
        tail = file.read(22)
    if head.startswith(LOCAL_MAGIC) or tail.startswith(END_MAGIC):
        return Kind.TORCH
    if _begins_like_safetensors(head):
        return Kind.SAFETENSORS
    if head.startswith(_PICKLE_MAGIC):
        return Kind.TORCH
    if 0 < len(head) < _MIN_SAFETENSORS_NBYTES and _suffix_of(name) == ".safetensors":
        return Kind.SAFETENSORS  # the name alone tells what such a rest was
    found = f"begins with {json.dumps(head.hex())}" if head else "is empty"
    raise UnsupportedError(
        f"{name} is neither {Kind.SAFETENSORS.words} nor {Kind.TORCH.words}: it {found}",
        path=name,
    )


def target_kind(path: str | os.PathLike[str], to: str | None = None) -> Kind:
    """The kind to write to `path`: `to`, or what the name says; a name without a suffix is a snapshot's.

    Raises:
        ConfigError: `to` is no kind, or the suffix is none of a kind.

    Example:
        >>> from sucrose.interchange.kinds import target_kind
        >>> target_kind("model.safetensors").value, target_kind("step_100").value, target_kind("x", "dcp").value
        ('safetensors', 'snapshot', 'dcp')
    """
    if to is not None:
        try:
            return Kind(to)
        except ValueError:
            known = ", ".join(kind.value for kind in Kind)
            raise ConfigError(f"{to!r} is no kind of checkpoint; expected one of {known}") from None
    name = os.path.basename(os.path.normpath(local_path(path)))
    suffix = _suffix_of(name)
    if suffix in _SUFFIXES:
        return Kind(_SUFFIXES[suffix])
    if suffix.lstrip(".").isdecimal() or not suffix:  # step_1.5 is a folder's name
        return Kind.SNAPSHOT
    raise ConfigError(
        f"{name!r}: the suffix {suffix!r} does not tell the kind to convert to; say --to "
        f"{', '.join(kind.value for kind in Kind)}"
    )


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)  # else a pipe would wait for somebody to write to it


def _begins_like_safetensors(head: bytes) -> bool:
    """Also where less of the file is there than its header has: it is a safetensors file then that was cut off."""
    header_nbytes = int.from_bytes(head[:8], "little")
    return len(head) == _MIN_SAFETENSORS_NBYTES and head[8:] == b"{" and header_nbytes <= MAX_HEADER_NBYTES


def _suffix_of(path: str) -> str:
    return os.path.splitext(path)[1].lower()

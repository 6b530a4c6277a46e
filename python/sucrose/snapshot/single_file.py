"""One object in one file, in the format of `torch.save`, through the engine.

Saving:

1. Pickle the object; storages are taken out and copied to the host where they are not there.
2. CRC-32 of every storage, side by side, and with them the layout of the whole file.
3. Write everything to a hidden temporary beside the target, and fsync it.
4. Rename it over the target, and fsync the folder. Before this nothing has changed.

Loading is `archive`'s business, or torch's where the file is of another kind.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pickle
import re
import secrets
import stat
import struct
import sys
from array import array
from typing import TYPE_CHECKING, Any

import torch

from sucrose.engine import Engine, Extents, get_engine
from sucrose.errors import CorruptionError, NotDurableError, StorageError
from sucrose.formats import torch_zip
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.archive import Archive
from sucrose.snapshot.tensors import storage_address
from sucrose.snapshot.torch_pickle import StoragePickler
from sucrose.snapshot.torch_unpickle import MapLocation, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_PICKLE_MAGIC = b"\x80"
"""How files of torch before 1.6 begin: they are several pickles in a row."""

_TORCH_ON_DAMAGE = re.compile("unexpected EOF|corrupt|PytorchStreamReader|Invalid protocol|storage has wrong byte size")


def save(obj: object, path: str | os.PathLike[str], *, durable: bool = True) -> None:
    """Saves `obj` to a file that `torch.load` and `sucrose.load` read.

    The file appears under its name only when it is complete: a crash leaves the previous one.
    Tensors that share memory are stored once and share it again after loading. `obj` must not be
    changed meanwhile.

    Args:
        obj: anything that `torch.save` can save.
        path: the file; an existing one is replaced.
        durable: return only when the file would survive a power cut.

    Raises:
        NotDurableError: the file is in place, but its folder could not be fsynced.
        OSError: the file cannot be written; nothing is left behind.
        UnsupportedError: `obj` holds a storage that the format cannot express.

    Example:
        >>> import torch, sucrose
        >>> sucrose.save({"weight": torch.ones(3)}, "/tmp/weights.pt")
        >>> torch.load("/tmp/weights.pt")
        {'weight': tensor([1., 1., 1.])}
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    short = os.fsdecode(os.fsencode(name)[:200])  # leaves room for the suffix in any file system
    temporary = os.path.join(folder, f".{short}.tmp-{secrets.token_hex(8)}")
    save_with_records(obj, target, {}, temporary=temporary, durable=durable)


def save_with_records(
    obj: object, target: str, records: Mapping[str, bytes], *, temporary: str, durable: bool = True
) -> None:
    """Like `save`, with small records of others in the file, which whoever loads `obj` does not see.

    Args:
        obj: anything that `torch.save` can save.
        target: the file; links in the path are not followed.
        records: contents by name; the names must be none of the format's.
        temporary: where the file is written first, on the same file system.
        durable: return only when the file would survive a power cut.

    Raises:
        Exception: as `save`.
    """
    _check_target(target)
    engine = get_engine()
    pickled = io.BytesIO()
    with collector_paused():
        pickler = StoragePickler(pickled)
        pickler.dump(obj)
    storages = [_on_host(storage) for storage in pickler.storages]
    layout = _plan(engine, pickled.getvalue(), storages, records)
    _write(engine, target, temporary, _extents(layout, storages), durable=durable)


def load(
    path: str | os.PathLike[str],
    map_location: MapLocation = None,
    *,
    weights_only: bool = True,
    verify: bool = True,
) -> Any:
    """Loads a file that `torch.save` or `sucrose.save` has written.

    Args:
        path: the file.
        map_location: where storages go: None (where they were), a device or its name, a dict from
            one name to another, or a callable ``(storage, location) -> storage | None``.
        weights_only: refuse everything but tensors and plain containers, as `torch.load` does.
        verify: check the CRC-32 of everything that is read.

    Raises:
        FileNotFoundError: there is no such file.
        CorruptionError: the file is torn, or its bytes are not those that were saved.
        UnsafeObjectError: `weights_only` refuses an object in it.
    """
    name = os.path.abspath(path)
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
        if torch.device("meta") != _device(map_location) and stat.S_ISREG(mode):
            archive = Archive(fd, name, verify=verify)
            if archive.is_ours():
                return archive.load(map_location, weights_only=weights_only)
        return _load_by_torch(fd, name, map_location, weights_only=weights_only)
    finally:
        os.close(fd)


def _on_host(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    return storage if storage.device.type == "cpu" else storage.cpu()  # type: ignore[no-untyped-call]


def _check_target(target: str) -> None:
    os.stat(os.path.dirname(target))  # an error that names the folder, not the temporary
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(target).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        if not stat.S_ISREG(mode):
            raise StorageError(errno.EINVAL, "not a regular file, which a save would replace", target)


def _plan(
    engine: Engine, pickled: bytes, storages: Sequence[torch.UntypedStorage], extra: Mapping[str, bytes]
) -> torch_zip.Layout:
    sources = Extents()
    for storage in storages:
        sources.append(storage_address(storage), storage.nbytes())
    crcs = engine.crc32(sources)
    identity = engine.digest(pickled + array("I", crcs).tobytes())
    halves = (int.from_bytes(identity[:8], "big"), int.from_bytes(identity[8:], "big"))
    records = [
        torch_zip.inline("archive/data.pkl", pickled),
        torch_zip.inline("archive/byteorder", sys.byteorder.encode()),
        *(torch_zip.inline(f"archive/{name}", content) for name, content in extra.items()),
    ]
    records += [
        torch_zip.Record(name=f"archive/data/{key}", nbytes=nbytes, crc32=crc)
        for key, (nbytes, crc) in enumerate(zip(sources.nbytes, crcs, strict=True))
    ]
    records += [
        torch_zip.inline("archive/version", b"3\n"),
        torch_zip.inline("archive/.data/serialization_id", b"%020d%020d" % halves),
    ]
    return torch_zip.plan(records)


def _extents(layout: torch_zip.Layout, storages: Sequence[torch.UntypedStorage]) -> Extents:
    frame = Extents()
    frame.append_bytes(layout.frame)
    base = frame.addresses[0]
    extents = Extents(keep_alive=[layout.frame, *storages])
    start = 0
    for cut, storage in zip(layout.cuts, storages, strict=True):
        extents.append(base + start, cut - start)
        extents.append(storage_address(storage), storage.nbytes())
        start = cut
    extents.append(base + start, len(layout.frame) - start)
    return extents


def _write(engine: Engine, target: str, temporary: str, extents: Extents, *, durable: bool) -> None:
    ticket = engine.write(temporary, extents, digest=False, durable=durable)
    try:
        ticket.wait()
        os.replace(temporary, target)
    except BaseException:
        ticket.cancel()
        with contextlib.suppress(OSError):
            ticket.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        try:
            engine.sync([os.path.dirname(target)])
        except OSError as error:
            raise NotDurableError(
                error.errno,
                f"{target!r} is saved and in place, but a power cut may undo that, as its folder could not be fsynced. "
                "Save again once the disk works",
                error.filename,
                path=target,
            ) from error


def _device(map_location: MapLocation) -> torch.device | None:
    return torch.device(map_location) if isinstance(map_location, (str, torch.device)) else None


def _load_by_torch(fd: int, path: str, map_location: MapLocation, *, weights_only: bool) -> Any:
    """Everything that is not an archive of today: legacy files, TorchScript, the meta device."""
    if not os.pread(fd, 4, 0).startswith((_PICKLE_MAGIC, torch_zip.LOCAL_MAGIC)):
        raise CorruptionError(f"{path} was not written by torch.save.", path=path)
    return load_by_torch(path, map_location=map_location, weights_only=weights_only)


def load_by_torch(path: str, *, map_location: MapLocation = None, weights_only: bool = True, **options: Any) -> Any:
    """What `torch.load` makes of a file, with the errors of `load`.

    Args:
        path: the file.
        map_location: as for `load`.
        weights_only: as for `load`.
        options: any other of `torch.load`'s.
    """
    failures: list[Exception] = []  # of the caller's `map_location`; they say nothing of the file
    if callable(map_location):
        map_location = _noting(failures, map_location)
    try:
        return torch.load(path, map_location=map_location, weights_only=weights_only, **options)
    except pickle.UnpicklingError as error:
        if weights_only:
            raise refusal(path, error) from error
        raise CorruptionError(f"{path} was not written by torch.save.", path=path) from error
    except (EOFError, LookupError, UnicodeError, AssertionError, struct.error, RuntimeError) as error:
        # Torch has no type of its own for damage; of devices that are missing it speaks in other words.
        reason = str(error).partition("\n")[0]
        if error in failures or (isinstance(error, RuntimeError) and _TORCH_ON_DAMAGE.search(reason) is None):
            raise
        raise CorruptionError(f"{path} ends early or was changed: {error!r}.", path=path) from error


def _noting(failures: list[Exception], decide: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def asked(storage: Any, location: str) -> Any:
        try:
            return decide(storage, location)
        except Exception as error:
            failures.append(error)
            raise

    return asked

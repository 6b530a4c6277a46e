"""One object in one file, in the format of `torch.save`, through the engine.

Saving:

1. Pickle the object; storages are taken out and copied to the host where they are not there.
2. CRC-32 of every storage, side by side, and with them the layout of the whole file, for which there has to be room.
3. Write everything to a hidden temporary beside the target, and fsync it.
4. Rename it over the target, and fsync the folder. Before this nothing has changed.

Loading is `archive`'s business, or torch's where the file is of another kind.
"""

from __future__ import annotations

import contextlib
import errno
import io
import mmap
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
from sucrose.formats.pickle_limits import PICKLE_MAGIC, PICKLES_BEFORE_STORAGES, check_pickle
from sucrose.formats.torch_zip_directory import read_directory, read_member
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.archive import Archive
from sucrose.snapshot.tensors import storage_address
from sucrose.snapshot.torch_pickle import StoragePickler
from sucrose.snapshot.torch_unpickle import BROKEN_PICKLE, MapLocation, refusal
from sucrose.storage import local_path
from sucrose.storage.free_space import check_free_space, is_full, storage_full

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ANY_DAMAGE = (EOFError, LookupError, UnicodeError, AssertionError, struct.error, RuntimeError)
_TORCH_ON_DAMAGE = re.compile("unexpected EOF|corrupt|PytorchStreamReader|Invalid protocol|storage has wrong byte size")


def save(obj: object, path: str | os.PathLike[str], *, durable: bool = True) -> None:
    """Saves `obj` to a file that `torch.load` and `sucrose.load` read.

    The file appears under its name only when it is complete: a crash leaves the previous one.
    Tensors that share memory are stored once and share it again after loading. `obj` must not be
    changed meanwhile.

    Args:
        obj: anything that `torch.save` can save.
        path: the file, on a file system; an existing one is replaced.
        durable: return only when the file would survive a power cut.

    Raises:
        ConfigError: `path` is the URL of an object store, to which only snapshots go.
        NotDurableError: the file is in place, but its folder could not be fsynced.
        StorageFullError: there is too little space for it; beside the old one, where it replaces one.
        OSError: the file cannot be written; nothing is left behind.
        UnsupportedError: `obj` holds a storage that the format cannot express.

    Example:
        >>> import torch, sucrose
        >>> sucrose.save({"weight": torch.ones(3)}, "/tmp/weights.pt")
        >>> torch.load("/tmp/weights.pt")
        {'weight': tensor([1., 1., 1.])}
    """
    target = os.path.realpath(local_path(path))
    save_with_records(obj, target, {}, temporary=temporary_beside(target), durable=durable)


def temporary_beside(target: str) -> str:
    """A hidden name in the same folder that nobody has."""
    folder, name = os.path.split(target)
    short = os.fsdecode(os.fsencode(name)[:200])  # leaves room for the suffix in any file system
    return os.path.join(folder, f".{short}.tmp-{secrets.token_hex(8)}")


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
    write_replacing(engine, target, temporary, _extents(layout, storages), durable=durable)


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
        ConfigError: `path` is the URL of an object store.
        FileNotFoundError: there is no such file.
        CorruptionError: the file is torn, or its bytes are not those that were saved.
        UnsafeObjectError: `weights_only` refuses an object in it.
    """
    name = os.path.abspath(local_path(path))
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


def write_replacing(engine: Engine, target: str, temporary: str, extents: Extents, *, durable: bool) -> None:
    """Writes a whole file under another name, then puts it in place.

    Args:
        engine: does the writing.
        target: the file; one that is there is replaced.
        temporary: a name beside it that nobody has.
        extents: the contents.
        durable: fsync the file and its folder.

    Raises:
        NotDurableError: the file is in place, but its folder could not be fsynced.
        OSError: the file cannot be written; nothing is left behind.
    """
    nbytes = sum(extents.nbytes)
    check_free_space(target, nbytes, replaces=os.path.exists(target))
    try:
        _write_and_rename(engine, target, temporary, extents, durable=durable)
    except OSError as error:
        if is_full(error):
            raise storage_full(error, target, nbytes) from error
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


def _write_and_rename(engine: Engine, target: str, temporary: str, extents: Extents, *, durable: bool) -> None:
    ticket = None
    try:
        ticket = engine.write(temporary, extents, digest=False, durable=durable)
        ticket.wait()
        os.replace(temporary, target)
    except BaseException:
        if ticket is not None:
            ticket.cancel()
            with contextlib.suppress(OSError):
                ticket.wait()
        with contextlib.suppress(FileNotFoundError):  # the file may be there although the write has not begun
            os.unlink(temporary)
        raise


def _device(map_location: MapLocation) -> torch.device | None:
    return torch.device(map_location) if isinstance(map_location, (str, torch.device)) else None


def _load_by_torch(fd: int, path: str, map_location: MapLocation, *, weights_only: bool) -> Any:
    """Everything that is not an archive of today: legacy files, TorchScript, the meta device."""
    if not os.pread(fd, 4, 0).startswith((PICKLE_MAGIC, torch_zip.LOCAL_MAGIC)):
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
    if weights_only:
        _check_pickles(path)
    try:
        return torch.load(path, map_location=map_location, weights_only=weights_only, **options)
    except pickle.UnpicklingError as error:
        if weights_only:
            raise refusal(path, error) from error
        raise CorruptionError(f"{path} was not written by torch.save.", path=path) from error
    except BROKEN_PICKLE as error:
        if not weights_only and not isinstance(error, _ANY_DAMAGE):
            raise
        # Torch has no type of its own for damage; of devices that are missing it speaks in other words.
        reason = str(error).partition("\n")[0]
        if "can't allocate memory" in reason:  # whatever such a file says
            raise StorageError(errno.ENOMEM, f"no memory for what {path} says is in it: {reason}", path) from error
        if error in failures or (isinstance(error, RuntimeError) and _TORCH_ON_DAMAGE.search(reason) is None):
            raise
        raise CorruptionError(f"{path} ends early or was changed: {error!r}.", path=path) from error


def _check_pickles(path: str) -> None:
    """Those that torch is about to read itself."""
    with open(path, "rb") as file:
        magic = file.read(4)
        if not magic.startswith((PICKLE_MAGIC, torch_zip.LOCAL_MAGIC)):
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if magic != torch_zip.LOCAL_MAGIC:
                check_pickle(content, path, count=PICKLES_BEFORE_STORAGES)
                return

            def read_at(offset: int, nbytes: int) -> bytes:
                return content[offset : offset + nbytes]

            for member in read_directory(read_at, len(content), path):
                if member.name.endswith("/data.pkl"):
                    check_pickle(read_member(read_at, member, path, verify=False), path)


def _noting(failures: list[Exception], decide: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def asked(storage: Any, location: str) -> Any:
        try:
            return decide(storage, location)
        except Exception as error:
            failures.append(error)
            raise

    return asked

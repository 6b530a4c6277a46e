"""The sites of Python code: functions of `os` and a few others, while a test watches them.

1. `watched` puts functions of its own in the place of those of `os`, `open`, `ctypes.CDLL` and the start of threads,
   and takes them back with the last one who leaves.
2. Such a function looks who has called: a module of this package, directly or by way of the standard library
   (`shutil.rmtree`, `os.makedirs`, `os.path.exists`). For all others it is the original.
3. For this package it asks the native core whether the call has to fail, which counts it as well, makes the call,
   and tells `changes.LISTENER` what was changed.
"""

from __future__ import annotations

import _thread
import builtins
import ctypes
import errno as errnos
import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from sucrose import _core
from sucrose.testing.changes import LISTENER, Change, ChangeKind

REAL: dict[str, Callable[..., Any]] = {
    name: getattr(os, name)
    for names in (
        ("open", "close", "read", "readv", "pread", "preadv", "write", "pwrite", "fsync", "fdatasync"),
        ("ftruncate", "truncate", "rename", "replace", "mkdir", "unlink", "remove", "rmdir"),
        ("stat", "lstat", "fstat", "access", "listdir", "scandir"),
    )
    for name in names
}
"""Functions of `os` as they were before."""

_ON_THE_WAY = frozenset(
    {"os", "posixpath", "genericpath", "shutil", "threading", "weakref", "contextlib", "functools", "io"}
)
_MAX_RETRIES = 1000

# Python itself asks again after EINTR here, so that no program ever sees it (PEP 475).
_RETRIED = frozenset({"open", "pread", "pwrite", "fsync", "ftruncate"})


def is_called_by_package(depth: int = 2) -> bool:
    """Whether the function `depth` frames up was called by this package, its tests' support excepted."""
    frame: FrameType | None = sys._getframe(depth)  # noqa: SLF001 - there is no other way to know the caller
    while frame is not None and frame.f_globals.get("__name__") in _ON_THE_WAY:
        frame = frame.f_back
    name = "" if frame is None else frame.f_globals.get("__name__", "")
    return name.startswith("sucrose.") and not name.startswith("sucrose.testing")


def error_at(site: str) -> int:
    """The errno that a call has to fail with, as a Python program would see it; or 0."""
    error = _core.fault_error_at(site)
    for _ in range(_MAX_RETRIES):
        if error != errnos.EINTR or site not in _RETRIED:
            break
        error = _core.fault_error_at(site)
    return error


def fail(error: int, *names: object) -> NoReturn:
    """Raises what the system would have the call raise."""
    paths = [name for name in names if isinstance(name, (str, bytes, os.PathLike))]
    if len(paths) == 2:
        raise OSError(error, os.strerror(error), paths[0], None, paths[1])
    raise OSError(error, os.strerror(error), *paths[:1])


def note(kind: ChangeKind, begin: int, *, fd: int | None = None, **values: Any) -> None:
    """Tells the listener of a change."""
    changes = LISTENER.changes
    if changes is None:
        return
    if fd is not None:
        info = REAL["fstat"](fd)
        values |= {"device": info.st_dev, "inode": info.st_ino}
    changes.append(Change(kind=kind, begin=begin, end=_core.journal_tick(), **values))


def open_fd(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """`os.open`."""
    begin = _core.journal_tick()
    if error := error_at("open"):
        fail(error, path)
    was_there = LISTENER.changes is None or not flags & os.O_CREAT or _is_there(path, dir_fd)
    fd: int = REAL["open"](path, flags, mode, dir_fd=dir_fd)
    if not was_there:
        note("create", begin, fd=fd, path=_full_path(path, dir_fd))
    elif flags & os.O_TRUNC and REAL["fstat"](fd).st_size == 0:
        note("truncate", begin, fd=fd)
    return fd


def write_fd(fd: int, data: Any, offset: int | None = None) -> int:
    """`os.write`, or `os.pwrite` where there is an offset."""
    begin = _core.journal_tick()
    if error := error_at("pwrite"):
        fail(error)
    view = memoryview(data).cast("B")
    view = view[: _core.fault_allowed_nbytes(len(view))]
    at = offset
    if at is None:
        appends = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND
        at = REAL["fstat"](fd).st_size if appends else os.lseek(fd, 0, os.SEEK_CUR)
    written: int = REAL["write"](fd, view) if offset is None else REAL["pwrite"](fd, view, offset)
    note("write", begin, fd=fd, offset=at, data=bytes(view[:written]))
    return written


def close_fd(fd: int) -> None:
    """`os.close`; the descriptor is gone even where it fails."""
    error = error_at("close")
    REAL["close"](fd)
    if error not in (0, errnos.EINTR):
        fail(error)


def _read(fd: int, nbytes: int) -> bytes:
    if error := error_at("pread"):
        fail(error)
    data: bytes = REAL["read"](fd, _core.fault_allowed_nbytes(nbytes))
    return data


def _pread(fd: int, nbytes: int, offset: int) -> bytes:
    if error := error_at("pread"):
        fail(error)
    data: bytes = REAL["pread"](fd, _core.fault_allowed_nbytes(nbytes), offset)
    return data


def _readv(fd: int, buffers: Any) -> int:
    if error := error_at("pread"):
        fail(error)
    nbytes: int = REAL["readv"](fd, _allowed_part(buffers))
    return nbytes


def _preadv(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
    if error := error_at("pread"):
        fail(error)
    nbytes: int = REAL["preadv"](fd, _allowed_part(buffers), offset, flags)
    return nbytes


def _allowed_part(buffers: Any) -> list[memoryview]:
    first = memoryview(buffers[0]).cast("B")
    allowed = _core.fault_allowed_nbytes(len(first))
    return [first[:allowed]] if allowed < len(first) else list(buffers)


def _fsync(fd: Any) -> None:
    begin = _core.journal_tick()
    fd = fd if isinstance(fd, int) else fd.fileno()
    error = error_at("fsync")
    try:
        if error:
            fail(error)
        REAL["fsync"](fd)
    except OSError:
        note("failed_sync", begin, fd=fd)
        raise
    note("sync", begin, fd=fd)


def _truncate(file: Any, nbytes: int) -> None:
    begin = _core.journal_tick()
    if error := error_at("ftruncate"):
        fail(error, file)
    REAL["truncate"](file, nbytes)
    if LISTENER.changes is not None:
        info = REAL["stat"](file)
        note("truncate", begin, device=info.st_dev, inode=info.st_ino, offset=nbytes)


def _rename(source: Any, target: Any) -> None:
    begin = _core.journal_tick()
    if error := error_at("rename"):
        fail(error, source, target)
    REAL["replace"](source, target)
    note("rename", begin, path=_full_path(source), target=_full_path(target))


def _mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    begin = _core.journal_tick()
    if error := error_at("mkdir"):
        fail(error, path)
    REAL["mkdir"](path, mode, dir_fd=dir_fd)
    if LISTENER.changes is not None:
        info = REAL["stat"](path, dir_fd=dir_fd, follow_symlinks=False)
        note("mkdir", begin, device=info.st_dev, inode=info.st_ino, path=_full_path(path, dir_fd))


def _unlink(path: Any, *, dir_fd: int | None = None) -> None:
    begin = _core.journal_tick()
    if error := error_at("unlink"):
        fail(error, path)
    REAL["unlink"](path, dir_fd=dir_fd)
    note("unlink", begin, path=_full_path(path, dir_fd))


def _rmdir(path: Any, *, dir_fd: int | None = None) -> None:
    begin = _core.journal_tick()
    if error := error_at("rmdir"):
        fail(error, path)
    REAL["rmdir"](path, dir_fd=dir_fd)
    note("rmdir", begin, path=_full_path(path, dir_fd))


def _looking(site: str, real: Callable[..., Any]) -> Callable[..., Any]:
    """A call that changes nothing."""

    def look(*args: Any, **kwargs: Any) -> Any:
        if error := error_at(site):
            fail(error, *args)
        return real(*args, **kwargs)

    return look


class _Libc:
    """A C library whose `renameat2` is watched."""

    def __init__(self, real: Any) -> None:
        self._real = real
        if hasattr(real, "renameat2"):
            self.renameat2 = self._exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def _exchange(self, old_fd: int, old: bytes, new_fd: int, new: bytes, flags: Any) -> int:
        begin = _core.journal_tick()
        if error := error_at("exchange"):
            ctypes.set_errno(error)
            return -1
        result: int = self._real.renameat2(old_fd, old, new_fd, new, flags)
        if result == 0:
            note("exchange", begin, path=_full_path(old), target=_full_path(new))
        return result


def _starting_thread(real: Callable[..., Any]) -> Callable[..., Any]:
    def start(*args: Any, **kwargs: Any) -> Any:
        if error_at("thread_start"):
            raise RuntimeError("can't start new thread")
        return real(*args, **kwargs)

    return start


def _is_there(path: Any, dir_fd: int | None) -> bool:
    try:
        REAL["stat"](path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def _full_path(path: Any, dir_fd: int | None = None) -> str:
    name = os.fsdecode(path)
    folder = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
    return os.path.normpath(os.path.join(folder, name))


def _for_package_only(ours: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (ours if is_called_by_package() else real)(*args, **kwargs)

    return chosen


def _replacements() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    from sucrose.testing.python_files import open_file

    ours: dict[str, Callable[..., Any]] = {
        "open": open_fd,
        "close": close_fd,
        "read": _read,
        "readv": _readv,
        "pread": _pread,
        "preadv": _preadv,
        "write": write_fd,
        "pwrite": write_fd,
        "fsync": _fsync,
        "fdatasync": _fsync,
        "ftruncate": _truncate,
        "truncate": _truncate,
        "rename": _rename,
        "replace": _rename,
        "mkdir": _mkdir,
        "unlink": _unlink,
        "remove": _unlink,
        "rmdir": _rmdir,
    }
    ours |= {name: _looking("stat", REAL[name]) for name in ("stat", "lstat", "fstat", "access")}
    ours |= {name: _looking("listdir", REAL[name]) for name in ("listdir", "scandir")}
    for name, function in ours.items():
        yield os, name, function
    yield builtins, "open", open_file
    yield ctypes, "CDLL", lambda *args, real=ctypes.CDLL, **kwargs: _Libc(real(*args, **kwargs))
    for module, name in (
        (_thread, "start_new_thread"),
        (threading, "_start_new_thread"),
        (threading, "_start_joinable_thread"),
    ):
        if hasattr(module, name):
            yield module, name, _starting_thread(getattr(module, name))


class _Watch:
    """Who watches, and what was in the place of what."""

    lock = threading.RLock()
    watchers = 0
    originals: list[tuple[Any, str, Any]] = []  # noqa: RUF012 - there is one watch


@contextmanager
def watched() -> Iterator[None]:
    """Puts the sites of Python code in place. May be nested, in any threads."""
    with _Watch.lock:
        _Watch.watchers += 1
        if _Watch.watchers == 1:
            for module, name, ours in list(_replacements()):
                real = getattr(module, name)
                _Watch.originals.append((module, name, real))
                setattr(module, name, _for_package_only(ours, real))
    try:
        yield
    finally:
        with _Watch.lock:
            _Watch.watchers -= 1
            if _Watch.watchers == 0:
                while _Watch.originals:
                    module, name, real = _Watch.originals.pop()
                    setattr(module, name, real)

"""Open files in states: what is recorded of one when it is saved.

That is the path of the file behind the descriptor, wherever it was moved to meanwhile, its contents, and
position, mode, encoding and permissions. `reopening` is the way back. Contents are read through a
descriptor of their own, so that the position of the program's does not move.

How a text file translates line ends (``newline=``) cannot be asked of it: it is opened with the default.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch

from sucrose.errors import UnsupportedError
from sucrose.state.reopening import reopen_file, reopen_temporary
from sucrose.state.text_position import position_of

OpenFile: TypeAlias = io.TextIOWrapper | io.BufferedReader | io.BufferedWriter | io.BufferedRandom | io.FileIO
OPEN_FILES = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)

_ATTEMPTS = 3
"""Readings of a file that another thread writes to meanwhile."""

_DELETED = " (deleted)"

_last_seen: WeakKeyDictionary[OpenFile, tuple[str, int]] = WeakKeyDictionary()
"""Path and position of files while they were open: they cannot be asked once they are closed."""


def remember(file: OpenFile) -> None:
    """Notes where an open file is, in case that it is closed before it is saved."""
    with contextlib.suppress(OSError, ValueError, UnsupportedError):
        if not file.closed:
            raw = _raw_of(file)
            _last_seen[file] = (_path_of(raw), _tell(file))


def reduce_file(file: OpenFile) -> Any:
    """How to pickle a file.

    Raises:
        UnsupportedError: no regular file, or one whose contents or position cannot be found out.
    """
    raw = _raw_of(file)
    try:
        path, position, contents, permissions = _closed_parts(file, raw) if file.closed else _open_parts(file, raw)
    except OSError as error:
        raise UnsupportedError(f"the open file {raw.name!r} cannot be read: {error}") from error
    record: dict[str, Any] = {"path": path, "position": position, "permissions": permissions, "mode": raw.mode}
    if isinstance(file, io.TextIOWrapper):
        record["mode"] = getattr(file, "mode", raw.mode.replace("b", ""))
        record["encoding"] = file.encoding
        record["errors"] = file.errors
        record["line_buffering"] = file.line_buffering
        record["write_through"] = file.write_through
    record["is_buffered"] = not isinstance(file, io.FileIO)
    return reopen_file, (record, _tensor_of(contents))


def reduce_temporary(wrapper: tempfile._TemporaryFileWrapper[Any]) -> Any:
    """How to pickle what NamedTemporaryFile returns."""
    closer = wrapper._closer  # noqa: SLF001 - nothing else knows whether it deletes
    return reopen_temporary, (wrapper.file, closer.delete)


def _open_parts(file: OpenFile, raw: io.FileIO) -> tuple[str, int, bytearray, int]:
    info = os.fstat(raw.fileno())
    if not stat.S_ISREG(info.st_mode):
        raise UnsupportedError(f"{raw.name!r} is a pipe, socket, terminal or device: it has no contents to be saved")
    if raw.fileno() <= 2 or not raw.closefd:
        raise UnsupportedError(f"the file {raw.name!r} on descriptor {raw.fileno()} is not the program's own")
    path = _path_of(raw)
    for _ in range(_ATTEMPTS):
        # In this order: what lies before the position is in the contents, whoever writes meanwhile.
        position = _tell_flushed(file) if file.writable() else _tell(file)
        contents = _read(f"/proc/self/fd/{raw.fileno()}")
        if not file.writable() or _tell_flushed(file) == position:
            break
    _last_seen[file] = (path, position)
    return path, position, contents, stat.S_IMODE(info.st_mode)


def _closed_parts(file: OpenFile, raw: io.FileIO) -> tuple[str, int, bytearray, int]:
    seen = _last_seen.get(file)
    if seen is None and isinstance(raw.name, int):
        raise UnsupportedError("a file without a name was closed: it cannot be found any more")
    path = os.path.abspath(os.fsdecode(raw.name)) if seen is None else seen[0]
    info = os.stat(path)
    if not stat.S_ISREG(info.st_mode):
        raise UnsupportedError(f"{path!r} is no regular file")
    contents = _read(path)
    position = len(contents)
    if seen is not None and raw.mode == "rb":
        position = seen[1]
    return path, position, contents, stat.S_IMODE(info.st_mode)


def _raw_of(file: OpenFile) -> io.FileIO:
    buffered = file.buffer if isinstance(file, io.TextIOWrapper) else file
    raw = getattr(buffered, "raw", buffered)
    if not isinstance(raw, io.FileIO):
        raise UnsupportedError(f"a {type(file).__name__} over a {type(raw).__name__} is no open file")
    return raw


def _path_of(raw: io.FileIO) -> str:
    path = os.readlink(f"/proc/self/fd/{raw.fileno()}")
    if not path.endswith(_DELETED) or os.path.exists(path):
        return path
    if isinstance(raw.name, int):
        raise UnsupportedError("a temporary file without a name cannot be opened again")
    return path.removesuffix(_DELETED)


def _tell(file: OpenFile) -> int:
    return position_of(file) if isinstance(file, io.TextIOWrapper) else file.tell()


def _tell_flushed(file: OpenFile) -> int:
    if isinstance(file, io.TextIOWrapper):
        return position_of(file)  # which flushes; to do that before it would hide that a loop over lines is under way
    file.flush()
    # While another thread writes, `tell` of a buffered writer counts bytes twice; this takes its lock.
    return file.seek(0, os.SEEK_CUR)


def _read(path: str) -> bytearray:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        contents = bytearray(os.fstat(fd).st_size)
        end = 0
        with memoryview(contents) as view:
            while end < len(contents) and (nbytes := os.readv(fd, [view[end:]])) > 0:
                end += nbytes
    finally:
        os.close(fd)
    del contents[end:]
    return contents


def _tensor_of(contents: bytearray) -> torch.Tensor:
    return torch.frombuffer(contents, dtype=torch.uint8) if contents else torch.empty(0, dtype=torch.uint8)

"""Open files of states, put back as they were when they were saved.

1. A file with other contents is replaced by a new one, which takes its name when it is complete. So it
   is never half written, nothing is written through a symbolic link, and hard links to it keep what
   they had. Where the folder takes no new file, the contents are written in place.
2. It is opened in its old mode, but never truncated: ``"w"`` and ``"x"`` would lose the contents.
3. It gets its permissions, and the position is set.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tempfile
from typing import IO, TYPE_CHECKING, Any

from sucrose.engine.blocks import memory_at
from sucrose.snapshot.tensors import storage_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

_PIECE_NBYTES = 1 << 20


def reopen_file(record: Mapping[str, Any], contents: torch.Tensor) -> IO[Any]:
    """Puts a file back and opens it.

    Args:
        record: what `open_files.reduce_file` has noted.
        contents: its bytes.

    Raises:
        OSError: it cannot be written or opened, or something else has its name.
    """
    path = record["path"]
    storage = contents.untyped_storage()
    data = memory_at(storage_address(storage), contents.numel()) if contents.numel() else memoryview(b"")
    if not _holds(path, data):
        _replace(path, data)
    try:
        file = _open(record)
    except PermissionError:
        os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
        file = _open(record)
    try:
        os.fchmod(file.fileno(), record["permissions"])
        file.seek(record["position"])
    except BaseException:
        file.close()
        raise
    return file


def reopen_temporary(file: IO[Any], delete: bool) -> tempfile._TemporaryFileWrapper[Any]:
    """What NamedTemporaryFile had returned, around a file that was put back."""
    return tempfile._TemporaryFileWrapper(file, file.name, delete)  # noqa: SLF001 - there is no other way to one


def _open(record: Mapping[str, Any]) -> IO[Any]:
    def open_untouched(path: str, flags: int) -> int:
        flags &= ~(os.O_TRUNC | os.O_EXCL | os.O_CREAT)
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)

    path, mode = record["path"], record["mode"]
    if "encoding" not in record:
        buffering = -1 if record["is_buffered"] else 0
        file: IO[Any] = open(path, mode, buffering, opener=open_untouched)  # noqa: SIM115 - it stays open
        return file
    text: io.TextIOWrapper = open(  # noqa: SIM115 - it stays open
        path,
        mode,
        1 if record["line_buffering"] else -1,
        encoding=record["encoding"],
        errors=record["errors"],
        opener=open_untouched,
    )
    if record["write_through"]:
        text.reconfigure(write_through=True)
    return text


def _holds(path: str, data: memoryview) -> bool:
    """Whether there is a regular file with these contents."""
    try:
        info = os.lstat(path)
        if not stat.S_ISREG(info.st_mode) or info.st_size != data.nbytes:
            return False
        with open(path, "rb", buffering=0) as file:
            at = 0
            while piece := file.read(_PIECE_NBYTES):
                if piece != data[at : at + len(piece)]:
                    return False
                at += len(piece)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    return at == data.nbytes


def _replace(path: str, data: memoryview) -> None:
    _refuse_special(path)
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    try:
        fd, temporary = tempfile.mkstemp(prefix=".sucrose-", dir=folder)
    except PermissionError:
        _write(os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC), data)
        return
    try:
        _write(fd, data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _refuse_special(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise FileExistsError(errno.EEXIST, "an open file of a state cannot be put back: its name is taken", path)


def _write(fd: int, data: memoryview) -> None:
    with open(fd, "wb", buffering=0) as file:
        at = 0
        while at < data.nbytes:
            at += file.write(data[at:]) or 0

"""`open` for watched code: the same file objects, over a raw file whose calls pass the sites."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from typing import Any

from sucrose import _core
from sucrose.testing import python_calls

_READ_NBYTES = 64 << 10


class WatchedFile(io.FileIO):
    """A raw file; see `python_calls` for what its calls do."""

    def __init__(self, file: Any, mode: str, *, closefd: bool, opener: Callable[[str, int], int] | None) -> None:
        super().__init__(file, mode, closefd=closefd, opener=opener or _open_plainly)

    def write(self, data: Any) -> int:
        """Writes what one call takes."""
        return python_calls.write_fd(self.fileno(), data)

    def readinto(self, buffer: Any) -> int:
        """Reads what one call gives."""
        if error := python_calls.error_at("pread"):
            python_calls.fail(error)
        view = memoryview(buffer).cast("B")
        return super().readinto(view[: _core.fault_allowed_nbytes(len(view))]) or 0

    def readall(self) -> bytes:
        """Reads up to the end."""
        data = bytearray()
        piece = bytearray(_READ_NBYTES)
        while nbytes := self.readinto(piece):
            data += piece[:nbytes]
        return bytes(data)

    def truncate(self, size: int | None = None) -> int:
        """Cuts the file."""
        begin = _core.journal_tick()
        if error := python_calls.error_at("ftruncate"):
            python_calls.fail(error)
        nbytes = super().truncate(size)
        python_calls.note("truncate", begin, fd=self.fileno(), offset=nbytes)
        return nbytes

    def close(self) -> None:
        """Closes it, even where that fails."""
        if self.closed:
            return
        error = python_calls.error_at("close")
        super().close()
        if error not in (0, errno.EINTR):
            python_calls.fail(error)


def _open_plainly(path: str, flags: int) -> int:
    return python_calls.open_fd(path, flags, 0o666)


def open_file(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
) -> Any:
    """The built-in `open`."""
    raw = WatchedFile(file, mode.replace("b", "").replace("t", ""), closefd=closefd, opener=opener)
    if buffering == 0:
        return raw
    buffer: Any
    if "+" in mode:
        buffer = io.BufferedRandom(raw)
    elif "r" in mode:
        buffer = io.BufferedReader(raw)
    else:
        buffer = io.BufferedWriter(raw)
    if "b" in mode:
        return buffer
    return io.TextIOWrapper(buffer, encoding, errors, newline)

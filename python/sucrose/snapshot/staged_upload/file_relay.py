"""A file of a staged copy, handed out block by block as the engine hands out what it writes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sucrose.engine import CHUNK_NBYTES, WriteResult
from sucrose.errors import CorruptionError
from sucrose.snapshot.records import record_of

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.formats.index import FileRecord
    from sucrose.storage import LocalDirectory

_DIGEST_DIGITS = 32


class FileBlock:
    """An `engine.Block`."""

    def __init__(self, offset: int, data: bytes) -> None:
        self.offset = offset
        self.data = memoryview(data)

    def release(self) -> None:
        """Its memory goes with the last view."""


class FileRelay:
    """An `engine.RelayedWriteTicket`. One thread takes its blocks; `cancel` and `fail` may come from others.

    Files that lie there as they are, are compared with their digests on the way.
    """

    def __init__(self, copy: LocalDirectory, name: str, record: FileRecord, engine: Engine, digest_kind: str) -> None:
        self._copy = copy
        self._name = name
        self._record = record
        self._engine = engine
        self._digest_kind = digest_kind
        self._nbytes = record.nbytes_on_disk
        self._offset = 0
        self._error: OSError | None = None

    def next_block(self, timeout_s: float | None = None) -> FileBlock | None:  # noqa: ARG002 - disks answer at once
        """See `RelayedWriteTicket.next_block`.

        Raises:
            CorruptionError: the file is not the one that was staged.
        """
        self._check()
        nbytes = min(CHUNK_NBYTES, self._nbytes - self._offset)
        if not nbytes:
            return None
        data = self._copy.read_part(self._name, self._offset, nbytes)
        if self._record.stored is None:
            self._compare(data)
        block = FileBlock(self._offset, data)
        self._offset += nbytes
        return block

    def progress(self) -> tuple[int, int]:
        """Bytes handed out, and bytes in all."""
        return self._offset, self._nbytes

    def cancel(self) -> None:
        """Hands out no further block."""
        self.fail(errno.EINTR)

    def fail(self, error_number: int) -> None:
        """See `RelayedWriteTicket.fail`."""
        self._error = self._error or OSError(error_number, "the upload was ended", self._copy.path_of(self._name))

    def wait(self, timeout_s: float | None = None) -> WriteResult:  # noqa: ARG002 - nothing goes on in here
        """See `WriteTicket.wait`; the digests are known already."""
        self._check()
        return WriteResult(nbytes=self._nbytes, digests=b"")

    def wait_safe(self, timeout_s: float | None = None) -> None:
        """Nothing of the program's is read."""

    def wait_staged(self, timeout_s: float | None = None) -> None:
        """Likewise."""

    def staged(self) -> bool:
        """Likewise."""
        return True

    def staging(self) -> str:
        """Likewise."""
        return "none"

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _compare(self, data: bytes) -> None:
        chunk = self._offset // CHUNK_NBYTES
        expected = self._record.digests[chunk * _DIGEST_DIGITS : (chunk + 1) * _DIGEST_DIGITS]
        found = record_of(data, self._engine, self._digest_kind).digests
        if found != expected:
            path = self._copy.path_of(self._name)
            raise CorruptionError(
                f"chunk {chunk} of {path}: digest {found} != {expected} at offset {self._offset}. The staged copy was "
                "changed after its commit, and is not uploaded any further; restore an older snapshot",
                path=path,
                offset=self._offset,
            )

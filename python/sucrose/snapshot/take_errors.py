"""Errors of the system during a take: which snapshot they were about, and how much it had to write."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sucrose.errors import StorageError, SucroseError
from sucrose.storage.free_space import is_full, storage_full

# Of these the caller knows best what to do, and expects Python's own types.
_PLAIN_ERRNOS = frozenset(
    {errno.EEXIST, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EROFS, errno.EINTR}
)


@contextmanager
def explained(snapshot_path: str, nbytes: Callable[[], int]) -> Iterator[None]:
    """Adds to errors of the system which snapshot it was about, and how much it had to write."""
    try:
        yield
    except OSError as error:
        with_context = _with_context(error, snapshot_path, nbytes)
        if with_context is error:
            raise
        raise with_context from error


def _with_context(error: OSError, snapshot_path: str, nbytes: Callable[[], int]) -> OSError:
    if isinstance(error, SucroseError) or error.errno is None or error.errno in _PLAIN_ERRNOS:
        return error
    if is_full(error):
        return storage_full(error, snapshot_path, nbytes())
    file = os.fsdecode(error.filename) if error.filename else snapshot_path
    return StorageError(
        error.errno,
        f"saving {snapshot_path!r} failed and nothing was committed: {os.strerror(error.errno)}",
        file,
        path=file,
    )

"""Locks on directories, so that nobody removes what somebody else writes or reads.

1. Whoever writes or reads a directory holds a shared lock on it: `lease`. Any number may.
2. Whoever wants to remove one takes the exclusive lock first, and leaves it alone where it cannot have
   that: `lease_for_removal`.
3. Both look, once they have the lock, whether that directory is still the one at the path.

The locks are those of flock(2), on a descriptor of the directory itself: they go with it when it is
renamed, and the kernel releases them when their holder dies, however it dies. No call waits. A forked
child holds none of its parent's. Where a file system has no such locks everybody goes on without, and
`Lease.is_held` is false.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from itertools import repeat
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from types import TracebackType


class _TakenError(BlockingIOError):
    """Others hold a lock. A type of its own: a directory that cannot be opened just now is not theirs."""


@final
class Lease:
    """An open directory and the lock on it, until `release` or the end of the ``with`` block.

    Belongs to one thread at a time.

    Attributes:
        path: where the directory was when it was opened.
        is_held: whether there is a lock; false on file systems without.
    """

    def __init__(self, path: str, operation: int, kind: int = os.O_DIRECTORY) -> None:
        """Use `lease` or `lease_for_removal`, which answer None where this raises one of these.

        Raises:
            BlockingIOError: others hold a lock that does not go with this one.
            FileNotFoundError: there is nothing at the path, or another directory by now.
            NotADirectoryError: what is at the path is no directory.
        """
        self.path = path
        self._fds: list[int] = []
        _open[id(self._fds)] = self._fds
        # Not __del__: that would run after each release, too, and Ctrl-C in it is lost.
        self._closing = weakref.finalize(self, _close, self._fds, os.getpid())
        self._closing.atexit = False
        # Not `fd = os.open(…)`: Ctrl-C is raised between a return and an assignment, too, and would lose
        # the descriptor with its lock. In here no Python code runs in between.
        self._fds.extend(map(os.open, (path,), (os.O_RDONLY | os.O_NOFOLLOW | kind,)))
        try:
            self.is_held = _try_lock(self._fds[0], operation)
            if not self.is_current():
                raise FileNotFoundError(path)
        except BaseException:
            self.release()  # whoever keeps the error must not keep the lock
            raise

    def is_current(self) -> bool:
        """Whether the directory is still at its path, neither moved nor replaced."""
        try:
            there = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(there, os.fstat(self._fds[0]))

    def release(self) -> None:
        """Gives the lock back; again is harmless."""
        _close(self._fds, os.getpid())
        self._closing.detach()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def lease(path: str) -> Lease | None:
    """For reading or writing the directory at `path`; None where it is gone, or about to be removed.

    Raises:
        OSError: the directory cannot be opened.

    Example:
        >>> import tempfile
        >>> from sucrose.storage.leases import lease, lease_for_removal
        >>> folder = tempfile.mkdtemp()
        >>> with lease(folder):
        ...     print(lease_for_removal(folder))
        None
    """
    return _lease(path, fcntl.LOCK_SH)


def lease_for_removal(path: str) -> Lease | None:
    """For removing the directory at `path`; None where it is gone, or somebody has a lease.

    Raises:
        OSError: the directory cannot be opened.
    """
    return _lease(path, fcntl.LOCK_EX)


def lease_of_file(path: str, *, alone: bool) -> Lease | None:
    """The same on a regular file, which others have in common for shorter than its directory.

    Args:
        path: the file.
        alone: whether nobody else may have a lease on it meanwhile.

    Raises:
        OSError: the file cannot be opened.
    """
    return _lease(path, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, os.O_NONBLOCK)


def _lease(path: str, operation: int, kind: int = os.O_DIRECTORY) -> Lease | None:
    try:
        return Lease(path, operation, kind)
    except (_TakenError, FileNotFoundError, NotADirectoryError):
        return None


def _try_lock(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _TakenError(*error.args) from None
    except OSError:  # ENOTSUP, ENOLCK, ENOSYS; EBADF, for exclusive locks on directories of NFS
        return False
    return True


_open: dict[int, list[int]] = {}
"""Descriptors of all leases of this process."""


def _close(fds: list[int], owner: int) -> None:
    if os.getpid() == owner:
        # Closing is not enough where a child has a copy, as between fork and exec.
        with suppress(OSError):
            list(map(fcntl.flock, fds, repeat(fcntl.LOCK_UN)))
        # Closed and forgotten in one step: Ctrl-C in between would have another file closed in the end. What a close
        # may fail with is of no interest, as nothing was written: a save that is in its place must not seem to fail.
        with suppress(OSError):
            list(map(os.close, map(fds.pop, [-1] * len(fds))))
    _open.pop(id(fds), None)


def _close_inherited() -> None:
    """A child would otherwise hold its parent's locks for as long as it lives."""
    for fds in list(_open.values()):
        list(map(os.close, map(fds.pop, [-1] * len(fds))))
    _open.clear()


os.register_at_fork(after_in_child=_close_inherited)

"""What has gone wrong when `torch.distributed.checkpoint` saves.

It raises a `BaseException` that holds the errors of all ranks, each with the text of a traceback. Of a failed write its
file format makes a `RuntimeError` about positions, and the system call's own error is what that came of.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from sucrose.errors import StorageError, UnsupportedError
from sucrose.storage.free_space import is_full, storage_full

if TYPE_CHECKING:
    from torch.distributed.checkpoint.api import CheckpointException


def failure_of(error: CheckpointException) -> BaseException:
    """What the save of the only rank has failed with: Ctrl-C may be among it."""
    return next((failure for failure, _ in error.failures.values()), error)


def save_error(failure: BaseException, target: str, nbytes: int) -> BaseException:
    """What to raise for a failure of torch's, once what the attempt has left is removed.

    Args:
        failure: as `failure_of` has it.
        target: what was being saved.
        nbytes: how much was to be written, as far as that is known.
    """
    if not isinstance(failure, Exception):
        return failure
    found = _system_error(failure)
    if found is not None and is_full(found):
        return storage_full(found, target, nbytes)
    if found is not None:
        number = errno.EIO if found.errno is None else found.errno
        why = f"saving it failed and nothing was committed: {found.strerror or found}"
        return StorageError(number, why, target, path=target)
    if isinstance(failure, ValueError):
        return UnsupportedError(f"torch.distributed.checkpoint cannot hold this state: {failure}", path=target)
    return failure


def _system_error(failure: BaseException) -> OSError | None:
    found: BaseException | None = failure
    while found is not None and not isinstance(found, OSError):
        found = found.__cause__ or found.__context__
    return found

"""Everything this package raises on purpose.

SucroseError
├── StorageError (OSError)                    a read, write, sync or rename failed; keeps its errno
│   ├── NotDurableError                       what was saved is in place, but a power cut may still undo that
│   ├── StorageFullError                      there is less space than what is to be saved takes
│   ├── ObjectNotFoundError (FileNotFoundError)   an object store has no such object, bucket or container
│   ├── ObjectExistsError (FileExistsError)   an object store has one of that name already
│   ├── AccessDeniedError (PermissionError)   an object store refuses these credentials
│   ├── StorageTimeoutError (TimeoutError)    an object store does not answer, or a transfer has stalled
│   └── ReadOnlyStorageError                  nothing can be written to URLs of this kind
├── CorruptionError                           bytes on disk are not the bytes that were saved
├── FormatVersionError                        written by a newer release than this one
├── IncompleteSnapshotError (FileNotFoundError)   no commit record: never finished, or no snapshot at all
├── SignatureError                            not signed, or not with a key of ours, where a signature is demanded
├── UnsafeObjectError                         restoring would unpickle more than the weights_only subset
├── StateMismatchError (RuntimeError)         the program's state and the snapshot do not fit together
├── UnsupportedError (TypeError)              a value that cannot be saved, such as a meta tensor
├── CancelledError                            the save was cancelled, and nothing was committed
├── CudaError                                 the CUDA driver refused a call
├── RankError (RuntimeError)                  a rank failed or is silent, so that the others cannot go on
├── ForkError                                 an engine or a pending save was used in a forked child
└── ConfigError (ValueError)                  an option, environment variable or configuration has a bad value
    ├── UnknownFieldError (KeyError)          a configuration has no such field
    └── MissingExtraError (ImportError)       a package is not installed that this needs

Every error carries what it is about: `path`, `key` and `offset` are None where they do not apply.
"""

from __future__ import annotations


class SucroseError(Exception):
    """Base of all errors of this package.

    Attributes:
        path: file or snapshot the error is about.
        key: logical path of the value, e.g. ``"0/model/weight"``.
        offset: byte offset in the file.
    """

    path: str | None
    key: str | None
    offset: int | None

    def __init__(
        self,
        *args: object,
        path: str | None = None,
        key: str | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(*args)
        self.path = path
        self.key = key
        self.offset = offset


class StorageError(SucroseError, OSError):
    """A storage operation failed; `errno` and `strerror` are those of the system call.

    Attributes:
        attempts: requests that an object store was sent; what became of those before the last nobody may know.
    """

    attempts: int = 1


class NotDurableError(StorageError):
    """The save is in its place, complete, but its folder could not be fsynced: a power cut may undo it."""


class StorageFullError(StorageError):
    """There is not enough space; `errno` is ENOSPC, or EDQUOT where a quota is used up.

    Attributes:
        needed_nbytes: what is to be written.
        free_nbytes: what there was room for.
    """

    needed_nbytes: int
    free_nbytes: int

    def __init__(self, *args: object, path: str | None = None, needed_nbytes: int = 0, free_nbytes: int = 0) -> None:
        super().__init__(*args, path=path)
        self.needed_nbytes = needed_nbytes
        self.free_nbytes = free_nbytes


class ObjectNotFoundError(StorageError, FileNotFoundError):
    """An object store has nothing of that name; `errno` is ENOENT."""


class ObjectExistsError(StorageError, FileExistsError):
    """An object store has something of that name, which was not to be replaced; `errno` is EEXIST."""


class AccessDeniedError(StorageError, PermissionError):
    """An object store refuses the credentials, or there are none; `errno` is EACCES."""


class StorageTimeoutError(StorageError, TimeoutError):
    """An object store has not answered in time, in any of several attempts; `errno` is ETIMEDOUT."""


class ReadOnlyStorageError(StorageError):
    """Nothing can be written there; `errno` is EROFS."""


class CorruptionError(SucroseError):
    """What is on disk differs from what was saved."""


class FormatVersionError(SucroseError):
    """The snapshot was written by a newer release."""


class IncompleteSnapshotError(SucroseError, FileNotFoundError):
    """There is no commit record at the path."""


class SignatureError(SucroseError):
    """A signature is demanded, and there is none, or one that no key of ours has made for these bytes."""


class UnsafeObjectError(SucroseError):
    """A stored object needs `allow_pickle=True` to be restored."""


class StateMismatchError(SucroseError, RuntimeError):
    """Keys, shapes or dtypes of the program's state differ from the snapshot's."""


class UnsupportedError(SucroseError, TypeError):
    """The value cannot be saved."""


class CancelledError(SucroseError):
    """The save was cancelled before its commit."""


class CudaError(SucroseError):
    """A CUDA driver call failed."""


class RankError(SucroseError, RuntimeError):
    """A collective call cannot go on: another rank has failed, is silent, or does something else.

    Attributes:
        ranks: those that the error comes from, as the process group of the call numbers them; empty where it is none.
        error_type: name of the type of the error that was raised there, such as ``"CorruptionError"``; empty where
            ranks are silent, or make other calls.
    """

    ranks: tuple[int, ...]
    error_type: str

    def __init__(self, *args: object, ranks: tuple[int, ...] = (), error_type: str = "") -> None:
        super().__init__(*args)
        self.ranks = ranks
        self.error_type = error_type


class ForkError(SucroseError):
    """The engine or the pending save belongs to another process and does not survive a fork."""


class ConfigError(SucroseError, ValueError):
    """An option, an environment variable or a field of a configuration has a value that is not allowed."""


class UnknownFieldError(ConfigError, KeyError):
    """A configuration has no field of that name; `key` is the name.

    Attributes:
        domains: those that were searched, nearest first.
        nearest: the field that may have been meant, or None.
    """

    domains: tuple[str, ...]
    nearest: str | None

    def __init__(
        self,
        *args: object,
        path: str | None = None,
        key: str | None = None,
        domains: tuple[str, ...] = (),
        nearest: str | None = None,
    ) -> None:
        super().__init__(*args, path=path, key=key)
        self.domains = domains
        self.nearest = nearest

    def __str__(self) -> str:
        return Exception.__str__(self)  # that of KeyError would be a name in quotes


class MissingExtraError(ConfigError, ImportError):
    """Something needs a package that is not installed; the message says how to install it.

    Attributes:
        extra: of this package, such as ``"s3"``; None where the package is none of its extras.
    """

    extra: str | None

    def __init__(self, *args: object, path: str | None = None, key: str | None = None, extra: str | None) -> None:
        super().__init__(*args, path=path, key=key)
        self.extra = extra

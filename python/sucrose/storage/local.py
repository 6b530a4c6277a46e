"""Snapshots on a local file system: reading by name, and the commit of a new directory.

The commit, so that a crash at any point leaves the old snapshot or the new one:

1. Everything is written below ``.<name>.tmp-<uuid>/`` beside the target. The leading dot matters:
   older readers match on prefixes. The writer has a lease on it, so that others can tell it from what
   a dead one has left.
2. Every file and every directory in it is fsynced.
3. The directory is renamed into place (exchanged with an old one where that is to be replaced).
4. The parent directory is fsynced.

Until step 3 nothing at the target has changed; what an interrupted attempt leaves is hidden. Where step
4 fails the new snapshot is in place, but perhaps not for good: the old one is kept under the hidden name.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import PurePosixPath
from typing import ClassVar

from sucrose.errors import CorruptionError, IncompleteSnapshotError, NotDurableError
from sucrose.storage.base import Directory, check_beside
from sucrose.storage.leases import Lease, lease
from sucrose.storage.regular_file import check_regular, is_short_name, read_regular, read_regular_part
from sucrose.storage.replacing import replace_file

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
_MAX_HIDDEN_NBYTES = 200  # of the target's name in ours; file systems allow 255

Sync = Callable[[Sequence[str]], None]


class LocalDirectory(Directory):
    """Files below one directory of this machine."""

    is_local: ClassVar[bool] = True

    def __init__(self, root: str) -> None:
        self.root = root
        self._known_folders: set[str] = set()
        self._referred: dict[str, tuple[LocalDirectory, str]] = {}
        """Files of other directories, by their names from here: where they are, and their names there."""

    def refer(self, base: str, names: Iterable[str]) -> None:
        other = self.beside(base)
        for name in names:
            there = name.removeprefix(f"{base}/")
            other.path_of(there)
            self._referred[name] = other, there

    def beside(self, base: str) -> LocalDirectory:
        check_beside(self.root, base)
        return LocalDirectory(os.path.join(self.root, base))

    def path_of(self, name: str) -> str:
        """Absolute or working-directory path of a file.

        Raises:
            CorruptionError: `name` leads out of the directory, to nothing that is referred to.
        """
        if name in self._referred:
            other, there = self._referred[name]
            return other.path_of(there)
        parts = PurePosixPath(name).parts
        is_inside = parts and not name.startswith("/") and ".." not in parts and "\0" not in name
        if not is_inside or not is_short_name(name):
            raise CorruptionError(f"{self.root}: {name!r} does not name a file inside the snapshot", path=self.root)
        return os.path.join(self.root, name)

    def read(self, name: str, max_nbytes: int | None = None) -> bytes:
        """All bytes of a small file.

        Raises:
            CorruptionError: it is longer than `max_nbytes`, no regular file, or reached by a symbolic link.
            OSError: it cannot be read.
        """
        if name in self._referred:
            other, there = self._referred[name]
            return other.read(there, max_nbytes)
        path = self.path_of(name)
        try:
            check_regular(self.root, name, self._known_folders)
            return read_regular(path, max_nbytes)
        except OSError as error:
            error.filename = path  # unknown to read
            raise

    def read_part(self, name: str, offset: int, nbytes: int) -> bytes:
        """Some bytes of a file.

        Raises:
            CorruptionError: it is too short, no regular file, or reached by a symbolic link.
            OSError: it cannot be read.
        """
        path = self.path_of(name)
        check_regular(self.root, name, self._known_folders)
        return read_regular_part(path, offset, nbytes)

    def read_into(self, name: str, offset: int, into: memoryview) -> None:
        into[:] = self.read_part(name, offset, into.nbytes)

    def size(self, name: str) -> int:
        """Bytes in a file.

        Raises:
            CorruptionError: it is no regular file, or reached by a symbolic link.
            OSError: it cannot be examined.
        """
        if name in self._referred:
            other, there = self._referred[name]
            return other.size(there)
        self.path_of(name)
        return check_regular(self.root, name, self._known_folders).st_size

    def replace(self, name: str, data: bytes, sync: Sync) -> None:
        replace_file(self.path_of(name), data, sync)


class StagedDirectory(LocalDirectory):
    """A directory being written beside `target`; nothing shows until `commit`.

    It goes with this object where neither `commit` nor `discard` is reached: Ctrl-C may come between
    any two lines of whoever has it.
    """

    def __init__(self, target: str, *, is_shared: bool = False) -> None:
        """Makes the directory; with `is_shared` other processes write in it, too (`JoinedDirectory`)."""
        self.target = os.path.abspath(target)
        self._is_shared = is_shared
        self._parent, name = os.path.split(self.target)
        self._new_parents = make_parents(self._parent)
        self._lease: Lease | None = None
        is_made = False
        while not is_made:  # between the making and the lease somebody may take it for a dead writer's
            super().__init__(os.path.join(self._parent, f".{_cut(name)}.tmp-{uuid.uuid4().hex}"))
            is_made = self._make()
        self._directories = {self.root}
        self._bases: list[Lease] = []
        self.small_nbytes = 0
        """What `write` was given so far, successfully or not."""

    def hold(self, bases: Iterable[Lease]) -> None:
        """Keeps leases on the snapshots that this one refers to until `commit` or `discard` is over."""
        self._bases.extend(bases)

    def create_path(self, name: str) -> str:
        """Path for a new file; its directories are made."""
        path = self.path_of(name)
        directory = os.path.dirname(path)
        if directory not in self._directories:
            os.makedirs(directory, exist_ok=True)
            while directory not in self._directories:
                self._directories.add(directory)
                directory = os.path.dirname(directory)
        return path

    def write(self, name: str, data: bytes) -> str:
        """Creates a small file and returns its path; `commit` makes it durable."""
        path = self.create_path(name)
        self.small_nbytes += len(data)
        write_new_file(path, data)
        return path

    def commit(
        self,
        files: Iterable[str],
        sync: Sync | None,
        *,
        overwrite: bool,
        last_look: AbstractContextManager[object] | None = None,
    ) -> None:
        """Steps 2 to 4.

        Args:
            files: paths of the files that are not durable yet.
            sync: fsyncs paths side by side; None gives durability up.
            overwrite: whether a directory at the target is replaced.
            last_look: step 3 happens inside of it, unless it raises.

        Raises:
            FileExistsError: the target exists.
            IncompleteSnapshotError: a snapshot that this one refers to has been replaced or removed.
            NotDurableError: step 4 failed. What was at the target is kept under the hidden name.
            OSError: nothing was committed.
        """
        if sync is not None:
            sync([*files, *self._directories])
        with last_look or nullcontext():
            self._check_bases()
            replaced = overwrite and os.path.isdir(self.target)
            if replaced:
                _exchange(self.root, self.target)
            else:
                _rename_new(self.root, self.target)
        if sync is not None:
            try:
                sync([self._parent, *self._new_parents])
            except OSError as error:
                self._keep()
                raise self._not_durable(error, replaced=replaced) from error
        if replaced:
            self.discard()  # the old one, under our hidden name
        self._keep()

    def discard(self) -> None:
        """Removes what is under the hidden name, unless it is kept by intention. No error is raised."""
        removal = self._removal.peek()
        if removal is not None:
            if self._lease is not None:
                self._lease.release()  # its descriptor may be the only one that there is for the removal
            _, remove, arguments, _ = removal
            if self._is_shared:
                self._move_away()
            remove(*arguments)
            self._keep()

    def _make(self) -> bool:
        """Makes the directory; False where somebody else has it already."""
        # Not __del__: that would run after each success, too, and Ctrl-C in it is lost.
        self._removal = weakref.finalize(self, _remove, self.root, os.getpid())
        self._removal.atexit = False
        try:
            os.mkdir(self.root)
        except FileExistsError:
            self._removal.detach()  # somebody else's
            raise
        try:
            self._lease = lease(self.root)
        except OSError:
            os.rmdir(self.root)  # without any descriptor left, rmtree could not
            raise
        return self._lease is not None

    def _move_away(self) -> None:
        """Others may be about to create files in here: once it is moved they find it no more, and it can be removed."""
        moved = f"{self.root}.gone"
        with suppress(OSError):
            os.rename(self.root, moved)
            _remove(moved, os.getpid())

    def _keep(self) -> None:
        """Leaves what is under either name to others."""
        self._removal.detach()
        if self._lease is not None:
            self._lease.release()
        for base in self._bases:
            base.release()

    def _check_bases(self) -> None:
        for base in self._bases:
            if not base.is_current():
                raise IncompleteSnapshotError(
                    errno.ENOENT,
                    f"{base.path} was replaced or removed while {self.target} was written, which refers to it; nothing "
                    "was committed",
                    base.path,
                    path=base.path,
                )

    def _not_durable(self, error: OSError, *, replaced: bool) -> NotDurableError:
        kept = f"; the one that it has replaced is kept at {self.root!r}" if replaced else ""
        why = os.strerror(error.errno) if error.errno is not None else str(error)
        return NotDurableError(
            error.errno,
            f"{self.target!r} is saved and in place, but a power cut may undo that, as its folder could not be "
            f"fsynced: {why}{kept}. Save again once the disk works",
            error.filename,
            path=self.target,
        )


def write_new_file(path: str, data: bytes) -> None:
    """Creates a small file, not durable yet."""
    try:
        with open(path, "xb") as file:
            file.write(data)
    except OSError as error:
        error.filename = path  # unknown to write and close
        raise


def _cut(name: str) -> str:
    """As much of a file name as leaves room for more in it."""
    return os.fsdecode(os.fsencode(name)[:_MAX_HIDDEN_NBYTES])


def _remove(path: str, owner: int) -> None:
    """Removes a hidden directory, in the process that has made it."""
    if os.getpid() != owner:
        return
    if os.path.islink(path):  # was at the target; what it leads to is not ours
        with suppress(OSError):
            os.unlink(path)
        return
    try:
        shutil.rmtree(path, ignore_errors=True)
        if os.path.lexists(path):
            _remove_with_one_descriptor(path)
    except OSError as error:
        # A descriptor that rmtree closes twice, where a signal handler raised in between: Ctrl-C, mostly.
        earlier = error.__context__
        if earlier is not None and not isinstance(earlier, OSError):
            raise earlier from None


def _remove_with_one_descriptor(path: str) -> None:
    """What rmtree has left, which needs one for each level."""
    for folder, folders, files in os.walk(path, topdown=False):
        for remove, names in ((os.unlink, files), (os.rmdir, folders)):
            for name in names:
                with suppress(OSError):
                    remove(os.path.join(folder, name))
    with suppress(OSError):
        os.rmdir(path)


def make_parents(directory: str, mode: int = 0o777) -> list[str]:
    """Makes `directory`, which gets `mode`; returns the directories that got a new entry by that, for an fsync."""
    changed: list[str] = []
    missing = directory
    while _is_missing(missing):
        missing = os.path.dirname(missing)
        changed.append(missing)
    os.makedirs(directory, mode, exist_ok=True)
    return changed


def _is_missing(path: str) -> bool:
    try:  # not os.path.lexists: where that may not look there seems to be nothing, the root included
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    return False


def sync_directories(directories: Iterable[str]) -> None:
    """fsyncs directories without the engine: a program may fork before it saves for the first time.

    Raises:
        OSError: the first that failed.
    """
    for directory in directories:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _rename_new(source: str, target: str) -> None:
    """Renames a directory to a name that must be free, or an empty directory."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        raise


def _exchange(source: str, target: str) -> None:
    """Puts `source` in the place of the directory `target`, and that in the place of `source`."""
    libc = ctypes.CDLL(None, use_errno=True)
    a, b = os.fsencode(source), os.fsencode(target)
    if hasattr(libc, "renameat2"):
        if not libc.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, ctypes.c_uint(_RENAME_EXCHANGE)):
            return
        error = ctypes.get_errno()
        if error not in _NO_EXCHANGE:  # a file system that does not work is not asked for three renames instead
            raise OSError(error, os.strerror(error), source, None, target)
    # File systems without exchange: for an instant neither is there, and both are whole.
    aside = f"{source}.old"
    try:
        os.rename(target, aside)
        os.rename(source, target)
        os.rename(aside, source)
    except BaseException:
        with suppress(OSError):
            os.rename(aside, source if os.path.lexists(target) else target)
        raise

"""The files of a catalog in a directory: everything that touches them comes through here.

```
root/
  step_<step>-<8 hex>/     a generation: a snapshot with a `.generation` in it
  .step_….tmp-<32 hex>/    a generation that is being written, or was when its writer died
  .trash/                  what is being removed
  .pins/                   markers (pins.py)
  quarantine/step_…/       broken generations, each with its `.reason`
```

Everything else in the folder is somebody else's, and left alone. Directories change their place by single renames, so
that each is in one place or the other whenever the process dies.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

from sucrose.catalog.directory import CatalogDirectory
from sucrose.catalog.listing import Listing, listing_of, read_record
from sucrose.catalog.local.listing import generation_names, is_gone, leftover_names, list_quarantined
from sucrose.catalog.local.pins import LocalPins
from sucrose.catalog.names import QUARANTINE, REASON_FILE, TRASH, new_id
from sucrose.engine import get_engine
from sucrose.errors import SucroseError
from sucrose.snapshot.incremental.dependents import dependents
from sucrose.storage import LocalDirectory
from sucrose.storage.leases import lease_for_removal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sucrose.catalog.generation import Generation, Quarantined
    from sucrose.formats.generation import GenerationRecord
    from sucrose.formats.signing_keys import Signer

logger = logging.getLogger(__name__)


class LocalCatalogDirectory(CatalogDirectory):
    """A directory of this machine."""

    def __init__(self, root: str, signer: Signer | None = None) -> None:
        """Refers to the directory, by an absolute path.

        Raises:
            ConfigError: a signing key of the environment is too short.
        """
        super().__init__(root, signer)
        self.pins = LocalPins(root)
        self._known: dict[str, GenerationRecord] = {}
        """Records that were read once: they do not change. Only for `newest_record`."""

    def files_of(self, name: str) -> LocalDirectory:
        return LocalDirectory(os.path.join(self.root, name))

    def is_gone(self, name: str) -> bool:
        return is_gone(os.path.join(self.root, name))

    def new_path(self, step: int) -> str:
        path = os.path.join(self.root, new_id(step))
        while os.path.lexists(path):
            path = os.path.join(self.root, new_id(step))
        return path

    def listing(self) -> Listing:
        """All generations, each record read anew. Neither the order nor the times of the folder's entries matter."""
        listing = listing_of(self, self._records())
        while listing is None:
            listing = listing_of(self, self._records())
        return listing

    def quarantined(self) -> list[Quarantined]:
        return list_quarantined(self.root)

    def leftovers(self) -> list[str]:
        return leftover_names(self.root)

    def newest_record(self) -> GenerationRecord | None:
        known = self._try_read_records()
        while known is None:  # see listing_of
            known = self._try_read_records()
        self._known = known
        return max(known.values(), key=lambda record: (record.timeline, record.step, record.committed_ns), default=None)

    def record_of(self, generation: Generation) -> GenerationRecord:
        return read_record(self.files_of(generation.id))

    def _records(self) -> Iterator[tuple[str, GenerationRecord | Exception]]:
        for name in generation_names(self.root):
            try:
                yield name, read_record(self.files_of(name))
            except (SucroseError, OSError) as error:
                yield name, error

    def _try_read_records(self) -> dict[str, GenerationRecord] | None:
        known = {}
        for name in generation_names(self.root):
            record = self._known.get(name)
            if record is None:
                try:
                    record = read_record(self.files_of(name))
                except (SucroseError, OSError):  # told of by whoever wants to restore it
                    if self.is_gone(name):
                        return None
                    continue
            if record.id == name:
                known[name] = record
        return known

    def quarantine(self, name: str, reason: str) -> None:
        source = os.path.join(self.root, name)
        with (
            suppress(OSError),
            # The reason may name a path that is not UTF-8.
            open(
                os.path.join(source, REASON_FILE),
                "w",
                encoding="utf-8",
                errors="backslashreplace",
                opener=_without_following,
            ) as file,
        ):
            file.write(f"{reason}\n")
        needed_by = dependents(source)
        if needed_by:  # they may be sound, and would not be without it
            logger.warning(
                "%s is broken and is passed over: %s. It stays where it is, as others refer to it, which may be "
                "broken, too: %s",
                source,
                reason,
                ", ".join(needed_by),
            )
            return
        try:
            target = os.path.join(self._own_folder(QUARANTINE), name)
            os.rename(source, target)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning(
                "%s is broken and is passed over: %s. It cannot be moved to quarantine: %s", source, reason, error
            )
            return
        logger.warning("%s is broken and was moved to %s: %s", source, target, reason)

    def make_durable(self, generation: Generation) -> None:
        paths = [self.root]
        for folder, _, files in os.walk(generation.path):
            # Whatever else lies there is nothing of ours, and opening a pipe would wait for somebody.
            paths += [folder, *(path for file in files if _is_regular(path := os.path.join(folder, file)))]
        get_engine().sync(paths)

    def discard(self, generation: Generation) -> bool:
        lease = lease_for_removal(generation.path)
        if lease is None:
            return False
        with lease:
            if self.pins.is_pinned(generation.id, by_record=generation.pinned):
                return False
            # With the lease nobody is about to refer to it, and those that do by now have said so.
            if dependents(generation.path):
                return False
            try:
                os.rename(generation.path, self._removal_path(generation.id))
            except FileNotFoundError:  # no locks here, and another process was faster
                return False
        self.pins.forget(generation.id)
        return True

    def is_unused(self, generation: Generation) -> bool:
        lease = lease_for_removal(generation.path)
        if lease is None:
            return False
        with lease:
            root = os.path.realpath(self.root)
            return all(os.path.dirname(dependent) == root for dependent in dependents(generation.path))

    def is_abandoned(self, leftover: str) -> bool:
        lease = lease_for_removal(os.path.join(self.root, leftover))
        if lease is None:
            return False
        with lease:
            return lease.is_held or _is_trash(leftover)

    def remove(self, leftover: str) -> bool:
        path = os.path.join(self.root, leftover)
        lease = lease_for_removal(path)
        if lease is None:
            return False
        with lease:
            if not lease.is_held and not _is_trash(leftover):  # no locks here: perhaps it is being written
                return False
            try:
                shutil.rmtree(path)
            except FileNotFoundError:  # no locks here, and another process removes it
                return False
        return True

    def _removal_path(self, generation_id: str) -> str:
        """Where a generation goes to be removed: into the trash, or where a full disk has no room for that, beside."""
        try:
            return os.path.join(self._own_folder(TRASH), generation_id)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return os.path.join(self.root, f".{generation_id}.tmp-{uuid.uuid4().hex}")  # as if its writer had died

    def _own_folder(self, name: str) -> str:
        """A folder of the catalog's, made where it is missing; nothing is moved through a symbolic link."""
        path = os.path.join(self.root, name)
        with suppress(FileExistsError):
            os.mkdir(path)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "the catalog needs a directory of its own here", path)
        return path


def _without_following(path: str, flags: int) -> int:
    """A file of ours, whatever stood there: neither a link's target nor that of a hard link is written to."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o666)


def _is_regular(path: str) -> bool:
    return stat.S_ISREG(os.lstat(path).st_mode)


def _is_trash(leftover: str) -> bool:
    return leftover.startswith(TRASH + os.sep)

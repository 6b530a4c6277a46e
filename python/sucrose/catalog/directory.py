"""The files of a catalog: everything that touches them comes through here.

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

from sucrose.catalog.generation import generation_of
from sucrose.catalog.listing import (
    Listing,
    generation_names,
    is_gone,
    leftover_names,
    list_generations,
    list_quarantined,
    read_record,
)
from sucrose.catalog.names import QUARANTINE, REASON_FILE, TRASH, new_id
from sucrose.catalog.pins import Pins
from sucrose.catalog.soundness import check_contents, check_structure, read_indexed
from sucrose.engine import get_engine
from sucrose.errors import SignatureError, SucroseError
from sucrose.formats.generation import GENERATION_FILE, decode_generation
from sucrose.snapshot.authenticity import signer_of
from sucrose.snapshot.incremental.dependents import dependents
from sucrose.storage import LocalDirectory
from sucrose.storage.leases import lease_for_removal

if TYPE_CHECKING:
    from sucrose.catalog.generation import Generation, Quarantined
    from sucrose.formats.generation import GenerationRecord
    from sucrose.formats.signing_keys import Signer

logger = logging.getLogger(__name__)


class CatalogDirectory:
    """One catalog's folder, which need not be there yet. Thread-safe."""

    def __init__(self, root: str, signer: Signer | None = None) -> None:
        """Refers to the folder; without `signer` the keys of the environment count, if there are any.

        Raises:
            ConfigError: such a key is too short.
        """
        self.root = root
        self.signer = signer_of(signer)
        self.pins = Pins(root)
        self._known: dict[str, GenerationRecord] = {}
        """Records that were read once: they do not change. Only for `newest_record`."""
        self._told_of: set[tuple[str, str]] = set()

    def new_path(self, step: int) -> str:
        """Where a new generation of `step` goes."""
        path = os.path.join(self.root, new_id(step))
        while os.path.lexists(path):
            path = os.path.join(self.root, new_id(step))
        return path

    def listing(self) -> Listing:
        """All generations, each record read anew."""
        return list_generations(self.root, self.pins, self.signer)

    def quarantined(self) -> list[Quarantined]:
        """Broken generations that were moved away, by name."""
        return list_quarantined(self.root)

    def leftovers(self) -> list[str]:
        """See `leftover_names`."""
        return leftover_names(self.root)

    def newest_record(self) -> GenerationRecord | None:
        """The newest one's, without reading those again that were read before: saves wait for this."""
        known = self._try_read_records()
        while known is None:  # see list_generations
            known = self._try_read_records()
        self._known = known
        return max(known.values(), key=lambda record: (record.timeline, record.step, record.committed_ns), default=None)

    def warn_of_refused(self, generation: Generation, error: SignatureError) -> None:
        """Tells the log once that a generation is passed over: looking for the newest is done again and again."""
        told = (generation.id, str(error))
        if told not in self._told_of:
            self._told_of.add(told)
            logger.warning("%s is passed over: %s", generation.path, error)

    def record_of(self, generation: Generation) -> GenerationRecord:
        """A generation's record, read anew.

        Raises:
            CorruptionError: it is damaged.
            OSError: it cannot be read.
        """
        return read_record(self.root, generation.id)

    def _try_read_records(self) -> dict[str, GenerationRecord] | None:
        known = {}
        for name in generation_names(self.root):
            record = self._known.get(name)
            if record is None:
                try:
                    record = read_record(self.root, name)
                except (SucroseError, OSError):  # told of by whoever wants to restore it
                    if is_gone(os.path.join(self.root, name)):
                        return None
                    continue
            if record.id == name:
                known[name] = record
        return known

    def check(self, generation: Generation, *, contents: bool) -> None:
        """Checks structure, and contents where asked for.

        Raises:
            SignatureError: keys are set, and it is not signed with any.
            SucroseError: something is wrong with it.
            OSError: a file cannot be read.
        """
        storage = LocalDirectory(generation.path)
        index = check_structure(storage, signer=self.signer)
        if self.signer is not None:
            self._check_record(generation, read_indexed(storage, index, GENERATION_FILE))
        if contents:
            check_contents(storage, index, get_engine())

    def _check_record(self, generation: Generation, data: bytes) -> None:
        """Whether it is the generation that the signed record speaks of: it was listed before anything was checked."""
        record = decode_generation(data, path=os.path.join(generation.path, GENERATION_FILE))
        signed = generation_of(record, generation.path, pinned=generation.pinned)
        # As text: among the metrics may be NaN, which equals nothing.
        if (signed.order, str(signed.metrics)) != (generation.order, str(generation.metrics)):
            raise SignatureError(
                f"the record of {generation.path!r} is not the one that is signed: it was changed while it was read",
                path=generation.path,
            )

    def quarantine(self, name: str, reason: str) -> None:
        """Moves a broken generation out of the way, and says so in the log.

        Where that is impossible, or others refer to it, only the log says so, and the `.reason`. Where somebody else
        was faster nothing happens.
        """
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
        """Fsyncs what a save without `durable` has left to the page cache."""
        paths = [self.root]
        for folder, _, files in os.walk(generation.path):
            # Whatever else lies there is nothing of ours, and opening a pipe would wait for somebody.
            paths += [folder, *(path for file in files if _is_regular(path := os.path.join(folder, file)))]
        get_engine().sync(paths)

    def discard(self, generation: Generation) -> bool:
        """Takes a generation away; `remove` of the leftover frees its space.

        Returns:
            False where it is in use, was pinned meanwhile, others refer to it, or it is gone already.

        Raises:
            OSError: it cannot be moved.
        """
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
        """Whether `discard` would take the generation away just now."""
        lease = lease_for_removal(generation.path)
        if lease is None:
            return False
        with lease:
            root = os.path.realpath(self.root)
            return all(os.path.dirname(dependent) == root for dependent in dependents(generation.path))

    def is_abandoned(self, leftover: str) -> bool:
        """Whether nobody writes or removes it."""
        lease = lease_for_removal(os.path.join(self.root, leftover))
        if lease is None:
            return False
        with lease:
            return lease.is_held or _is_trash(leftover)

    def remove(self, leftover: str) -> bool:
        """Removes one of `leftovers`; what a crash leaves of it is a leftover again.

        Returns:
            False where its writer may be alive, another process removes it, or it is gone already.

        Raises:
            OSError: it cannot be removed.
        """
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

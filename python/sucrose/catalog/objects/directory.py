"""The files of a catalog in an object store: everything that touches them comes through here.

How a generation goes, so that a crash between any two requests leaves it whole, or known as the rest of one:

1. The mark ``.removed`` is put into its folder. It means nothing while there is a commit record.
2. The commit record is deleted: from here on it is no generation.
3. Everything else is deleted, and the mark last.

Into quarantine it goes by a copy of the commit record under another name, the reason, and the deletion of the record.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any, final

from sucrose.catalog.directory import CatalogDirectory
from sucrose.catalog.generation import Quarantined
from sucrose.catalog.listing import Listing, first_line, listing_of, read_record
from sucrose.catalog.names import QUARANTINED_METADATA, REASON_FILE, REMOVED_FILE, new_id
from sucrose.catalog.objects import leftovers
from sucrose.catalog.objects.folders import FolderState, folder_names, state_of
from sucrose.catalog.objects.pins import ObjectPins
from sucrose.catalog.objects.records import Records
from sucrose.catalog.soundness import damage_of
from sucrose.errors import FormatVersionError, SucroseError
from sucrose.formats.generation import GenerationRecord
from sucrose.formats.limits import MAX_METADATA_NBYTES, MAX_REASON_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.snapshot.remote.side_by_side import side_by_side
from sucrose.storage import location_of
from sucrose.storage.objects import Storage, StorageOptions
from sucrose.storage.objects.directory import ObjectDirectory
from sucrose.storage.objects.shared import shared_storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sucrose.catalog.generation import Generation
    from sucrose.formats.signing_keys import Signer

logger = logging.getLogger(__name__)


@final
class ObjectCatalogDirectory(CatalogDirectory):
    """A folder of an object store."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        signer: Signer | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Refers to the folder at a URL. Nothing is sent yet.

        Raises:
            ConfigError: there is no storage for the URL, an option is not allowed, a package is missing, or a signing
                key of the environment is too short.
        """
        super().__init__(location_of(root), signer)
        self.storage_options = storage_options
        self.pins = ObjectPins(self._storage)
        options = StorageOptions.parse(storage_options)
        self._abandoned_after_s = options.abandoned_after_s
        self._concurrency = options.concurrency
        self._url = os.fspath(root)
        self._opened: tuple[int, Storage] | None = None
        self._storage()
        self._records = Records(self._storage, self._concurrency)

    def files_of(self, name: str) -> ObjectDirectory:
        return ObjectDirectory(self._storage().within(name))

    def is_gone(self, name: str) -> bool:
        return not self._storage().exists(f"{name}/{METADATA_FILE}")

    def new_path(self, step: int) -> str:
        name = new_id(step)
        while next(self._storage().list(f"{name}/"), None) is not None:
            name = new_id(step)
        return self.path_of(name)

    def listing(self) -> Listing:
        while True:
            found = self._records.look(trusts_known=False)
            listing = listing_of(
                self, [(name, what) for name, what in found.items() if not isinstance(what, FolderState)]
            )
            if listing is not None:
                return listing

    def quarantined(self) -> list[Quarantined]:
        storage = self._storage()

        def look_at(name: str) -> Quarantined | None:
            if state_of(storage, name) is not FolderState.QUARANTINED:
                return None
            try:
                reason = first_line(storage.read(f"{name}/{REASON_FILE}", MAX_REASON_NBYTES))
            except (SucroseError, OSError):
                reason = "unknown: it was not written down"
            return Quarantined(name=name, path=self.path_of(name), reason=reason)

        found = side_by_side(look_at, sorted(folder_names(storage)), self._concurrency)
        return [quarantined for quarantined in found if quarantined is not None]

    def leftovers(self) -> list[str]:
        found = self._records.look(trusts_known=True)
        rest = {name for name, what in found.items() if what in (FolderState.UNFINISHED, FolderState.REMOVED)}
        uploads = leftovers.abandoned_uploads(self._storage(), self._abandoned_after_s)
        return sorted(rest.union(name for name in uploads if name not in found))

    def newest_record(self) -> GenerationRecord | None:
        while True:
            found = self._records.look(trusts_known=True)
            for name, what in found.items():
                is_told_later = isinstance(what, FormatVersionError)  # by whoever wants to restore it
                if isinstance(what, Exception) and not is_told_later and damage_of(what, self.path_of(name)) is None:
                    raise what  # it may be the newest one's
            records = [what for name, what in found.items() if isinstance(what, GenerationRecord) and what.id == name]
            newest = max(records, key=lambda record: (record.timeline, record.step, record.committed_ns), default=None)
            if newest is None or not self.is_gone(newest.id):
                return newest
            self._records.forget(newest.id)

    def record_of(self, generation: Generation) -> GenerationRecord:
        return read_record(self.files_of(generation.id))

    def quarantine(self, name: str, reason: str) -> None:
        path = self.path_of(name)
        needed_by = sorted(other for other, record in self._records.known().items() if name in record.bases)
        if needed_by:  # they may be sound, and would not be without it
            logger.warning(
                "%s is broken and is passed over: %s. It stays where it is, as others refer to it, which may be "
                "broken, too: %s",
                path,
                reason,
                ", ".join(map(self.path_of, needed_by)),
            )
            return
        storage = self._storage()
        try:
            record = storage.read(f"{name}/{METADATA_FILE}", MAX_METADATA_NBYTES)
            storage.put(f"{name}/{REASON_FILE}", f"{reason}\n".encode("utf-8", "backslashreplace"))
            storage.put(f"{name}/{QUARANTINED_METADATA}", record)
            if storage.exists(f"{name}/{REMOVED_FILE}") and self.is_gone(name):
                # A collection was faster, and that is why something was missing. It leaves alone what is in quarantine.
                storage.delete([f"{name}/{REASON_FILE}", f"{name}/{QUARANTINED_METADATA}"])
                return
            storage.delete([f"{name}/{METADATA_FILE}"])
        except FileNotFoundError:
            return
        except (SucroseError, OSError) as error:
            logger.warning(
                "%s is broken and is passed over: %s. It cannot be put into quarantine: %s", path, reason, error
            )
            return
        self._records.forget(name)
        logger.warning("%s is broken and was put into quarantine, where it is: %s", path, reason)

    def make_durable(self, generation: Generation) -> None:
        """What a store has taken is as durable as it gets."""

    def discard(self, generation: Generation) -> bool:
        name, storage = generation.id, self._storage()
        hidden = {file.name.removeprefix(f"{name}/") for file in storage.list(f"{name}/.")}
        if METADATA_FILE not in hidden or self._is_pinned(generation):
            return False
        storage.put(f"{name}/{REMOVED_FILE}", b"")
        if QUARANTINED_METADATA in hidden:  # of an attempt that was interrupted; it would seem to be in there
            storage.delete([f"{name}/{QUARANTINED_METADATA}"])
        if self._is_pinned(generation):  # meanwhile
            return False
        storage.delete([f"{name}/{METADATA_FILE}"])
        self._records.forget(name)
        self.pins.forget(name)
        return True

    def is_unused(self, generation: Generation) -> bool:
        return not self.is_gone(generation.id)

    def is_abandoned(self, leftover: str) -> bool:
        return leftovers.is_abandoned(self._storage(), leftover, self._abandoned_after_s)

    def remove(self, leftover: str) -> bool:
        return leftovers.remove(self._storage(), leftover, self._abandoned_after_s)

    def _is_pinned(self, generation: Generation) -> bool:
        return self.pins.is_pinned(generation.id, by_record=generation.pinned)

    def _storage(self) -> Storage:
        if self._opened is None or self._opened[0] != os.getpid():  # connections do not survive a fork
            self._opened = os.getpid(), shared_storage(self._url, self.storage_options)
        return self._opened[1]

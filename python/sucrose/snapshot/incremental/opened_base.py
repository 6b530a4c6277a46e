"""The snapshot that a take refers to, opened, and kept from being removed meanwhile."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from sucrose.engine import CHUNK_NBYTES, Engine
from sucrose.errors import CorruptionError, IncompleteSnapshotError
from sucrose.formats.index import DIGEST_NAME, SHA256_NAME, BaseRecord, FileRecord
from sucrose.formats.limits import MAX_METADATA_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.snapshot.contents import load_metadata
from sucrose.snapshot.incremental.bases import base_of, check_base
from sucrose.snapshot.records import record_of
from sucrose.storage import LocalDirectory
from sucrose.storage.leases import Lease, lease

if TYPE_CHECKING:
    from sucrose.formats.manifest import Entry
    from sucrose.formats.signing_keys import Signer

logger = logging.getLogger(__name__)


class OpenedBase:
    """A committed snapshot, as one at `target` may refer to it. Belongs to one thread at a time.

    Locations in here are those of the base's own manifest; `location_from_target` makes them those of the new one.
    """

    def __init__(self, path: str, target: str, engine: Engine, signer: Signer | None) -> None:
        """Reads the metadata and takes a lease.

        Raises:
            IncompleteSnapshotError: there is no complete snapshot at `path`.
            SignatureError: it is not signed with a key of `signer`.
            CorruptionError: its metadata or its index is damaged.
            ValueError: one of `target` and `path` lies inside the other.
        """
        self.root = os.path.realpath(path)
        self.leases: list[Lease] = []
        """On this one, and on those that were asked for with `bases_of`."""
        self._engine = engine
        self._digest_kind = DIGEST_NAME if signer is None else SHA256_NAME
        folder, name = os.path.split(os.path.abspath(target))
        self._target = os.path.join(os.path.realpath(folder), name)
        self._relative = os.path.relpath(self.root, self._target)
        if set(self._relative.split(os.sep)) == {os.pardir}:
            raise ValueError(f"{target!r} lies inside {path!r}, which it cannot refer to then: save beside it")
        if self.root.startswith(self._target + os.sep):
            raise ValueError(f"{path!r} lies inside {target!r}, which cannot refer to it then: save beside it")
        self._take_lease(self.root)
        self.storage = LocalDirectory(self.root)
        try:
            self.metadata, self.index = load_metadata(self.storage, path, signer)
        except BaseException:
            self.release()
            raise

    @property
    def is_usable(self) -> bool:
        """Whether records of its files can be taken over: their digests have to be of the kind that is wanted."""
        return self.index is None or self.index.digest == self._digest_kind

    def entry(self, path: str) -> Entry | None:
        """What the manifest has at a logical path."""
        return self.metadata.manifest.get(path)

    def fingerprints(self, path: str) -> bytes | None:
        """Those of the tensor at a logical path, where the snapshot has any."""
        found = None if self.index is None else self.index.fingerprints.get(path)
        try:
            return None if found is None else bytes.fromhex(found)
        except ValueError:
            return None

    def location_from_target(self, location: str) -> str:
        """The same file, by its name from the new snapshot."""
        return os.path.normpath(os.path.join(self._relative, location))

    def records_of(self, locations: Iterable[str]) -> dict[str, FileRecord]:
        """What the new index has of files of this one, by their names from the new snapshot.

        Raises:
            CorruptionError: one is missing, or does not have its length.
        """
        return {self.location_from_target(location): self._record(location) for location in locations}

    def bases_of(self, locations: Iterable[str]) -> dict[str, BaseRecord]:
        """The snapshots in which these files lie, by their names from the new one; takes leases on them.

        Raises:
            IncompleteSnapshotError: one is not there any more.
            CorruptionError: one is not what it was.
            FileExistsError: one is what the new snapshot would replace.
        """
        found: dict[str, BaseRecord] = {}
        for location in locations:
            base = None if self.index is None else base_of(location, self.index)
            name = self._relative if base is None else os.path.normpath(os.path.join(self._relative, base))
            if name not in found:
                found[name] = self._own_record() if base is None else self._record_of_base(base)
                self._refuse_target(name)
        return found

    def release(self) -> None:
        """Gives all leases back."""
        for held in self.leases:
            held.release()

    def _own_record(self) -> BaseRecord:
        data = self.storage.read(METADATA_FILE, MAX_METADATA_NBYTES)
        return BaseRecord(record_of(data, self._engine, self._digest_kind))

    def _record_of_base(self, base: str) -> BaseRecord:
        assert self.index is not None
        self._take_lease(os.path.realpath(os.path.join(self.root, base)))
        check_base(self.storage, self.index, base, self._engine)
        return self.index.bases[base]

    def _refuse_target(self, name: str) -> None:
        found = os.path.normpath(os.path.join(self._target, name))
        if found == self._target or found.startswith(self._target + os.sep):
            raise FileExistsError(
                errno.EEXIST,
                "this snapshot would be replaced by one that refers to it: save to another path, or without base",
                self._target,
            )

    def _record(self, location: str) -> FileRecord:
        path = self.storage.path_of(location)
        try:
            actual = self.storage.size(location)
        except FileNotFoundError as error:
            raise CorruptionError(
                f"{path}, which the snapshot {self.root} needs, is missing", path=self.root
            ) from error
        if self.index is None:
            return self._measured_record(path)
        record = self.index.files.get(location)
        if record is None or actual != record.nbytes_on_disk:
            expected = "which the index does not know" if record is None else f"expected {record.nbytes_on_disk}"
            raise CorruptionError(f"{path} has {actual} bytes, {expected}", path=self.root)
        return record

    def _measured_record(self, path: str) -> FileRecord:
        """Of a file without digests: it is read for them."""
        logger.info("%s has no digests: it is read for them, as it is going to be referred to", path)
        nbytes = 0
        digests = []
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK_NBYTES):
                nbytes += len(chunk)
                digests.append(self._engine.digest(chunk, self._digest_kind).hex())
        return FileRecord(nbytes, "".join(digests))

    def _take_lease(self, root: str) -> None:
        held = lease(root)
        if held is None:
            raise IncompleteSnapshotError(
                errno.ENOENT, "no snapshot here to refer to: it is gone, or about to be removed", root, path=root
            )
        self.leases.append(held)

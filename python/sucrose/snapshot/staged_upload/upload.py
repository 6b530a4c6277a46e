"""`StagedUpload`: a take's way from the staging folder to the store."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sucrose.formats.index import index_names
from sucrose.snapshot.staged_upload.note import NOTE_FILE, UploadNote, read_note
from sucrose.storage import local_path
from sucrose.storage.leases import lease, lease_of_file
from sucrose.storage.objects.gate import Gate
from sucrose.storage.objects.options import StorageOptions

if TYPE_CHECKING:
    from sucrose.storage.leases import Lease

_IN_NOTES = (
    "endpoint",
    "concurrency",
    "part_nbytes",
    "attempts",
    "backoff_s",
    "max_backoff_s",
    "connect_timeout_s",
    "stall_timeout_s",
    "answer_timeout_s",
    "abandoned_after_s",
)
"""Names of storage options; all others may be credentials."""


class StagedUpload:
    """What becomes of one staged copy; written by the take, then by the thread that uploads. Any thread may look.

    Attributes:
        folder: the staging folder.
        url: of the snapshot, without credentials; empty before the take has begun.
        path: of the staged copy; likewise.
        note: that of the copy; None before its commit.
        is_uploaded: whether the snapshot is in the store.
        is_fresh: whether no upload of it was tried yet.
        error: why the last attempt has failed.
        ended: opens with the end of the attempt that is under way, or waited for.
        unwanted: gives it up.
        pid: process that uploads.

    From its commit on a lease on the note keeps other processes from the copy, until it is removed or this one dies.
    """

    def __init__(
        self, staging_dir: str | os.PathLike[str], storage_options: Mapping[str, Any] | None, *, overwrite: bool
    ) -> None:
        """Of a take that is about to begin.

        Raises:
            ConfigError: `staging_dir` is no path of this machine.
        """
        self.folder = os.path.realpath(local_path(staging_dir))
        self.url = ""
        self.path = ""
        self.storage_options = dict(storage_options or {})
        self.note: UploadNote | None = None
        self.is_uploaded = False
        self.is_fresh = True
        self.error: Exception | None = None
        self.ended = Gate()
        self.unwanted = threading.Event()
        self.pid = os.getpid()
        self._overwrite = overwrite
        self._lease: Lease | None = None

    @classmethod
    def found(cls, path: str, storage_options: Mapping[str, Any] | None) -> StagedUpload | None:
        """Of a copy that another process has left; None where that one is alive, or it is uploaded.

        Raises:
            CorruptionError: its note is damaged.
        """
        held = lease_of_file(os.path.join(path, NOTE_FILE), alone=True)
        if held is None:
            return None
        try:
            note = read_note(path)
        except BaseException:
            held.release()  # whoever keeps the error must not keep the lock
            raise
        if note.is_uploaded:
            held.release()
            return None
        upload = cls(os.path.dirname(path), {**note.storage_options, **(storage_options or {})}, overwrite=False)
        upload.url, upload.path, upload.note, upload.is_fresh, upload._lease = note.url, path, note, False, held
        return upload

    @property
    def has_ended(self) -> bool:
        """Whether the last attempt is over."""
        return self.ended.is_open

    def noted(self, tag: str, metadata: bytes) -> UploadNote:
        """Makes the note, when the commit record is known."""
        given = {name: value for name, value in self.storage_options.items() if name in _IN_NOTES}
        StorageOptions.parse(given)  # without credentials in the endpoint
        self.note = UploadNote(
            url=self.url,
            tag=tag,
            record=index_names(metadata)[0].rpartition(".")[2],
            overwrite=self._overwrite,
            storage_options=given,
        )
        return self.note

    def keep(self, note: str) -> None:
        """Takes the lease; `note` is where the note lies before the commit."""
        self._lease = lease_of_file(note, alone=True)

    def let_go(self) -> None:
        """The copy is gone."""
        if self._lease is not None:
            self._lease.release()

    def try_hold(self) -> Lease | None:
        """Keeps the staged copy for a reader; None where it is gone, or the snapshot is in the store already."""
        if self.is_uploaded:
            return None
        held = lease(self.path)
        if held is not None and self._is_noted():
            held.release()
            return None
        return held

    def begin_again(self) -> None:
        """Another attempt will be made."""
        self.error = None
        self.is_fresh = False
        self.ended = Gate()

    def end(self, error: Exception | None = None) -> None:
        """The attempt is over."""
        self.error = error
        self.is_uploaded = self.is_uploaded or error is None
        self.ended.open()

    def _is_noted(self) -> bool:
        try:
            return read_note(self.path).is_uploaded
        except FileNotFoundError:
            return True

"""Files of a staged copy on their way to the store: those that are not there yet."""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from sucrose.errors import AccessDeniedError, StorageError
from sucrose.snapshot.progress import MAX_UNDER_WAY, ends_within
from sucrose.snapshot.remote.names import tagged_folders
from sucrose.snapshot.remote.uploading import UploadTicket
from sucrose.snapshot.staged_upload.file_relay import FileRelay

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.formats.index import FileRecord, SnapshotIndex
    from sucrose.snapshot.remote.upload_threads import UploadThreads
    from sucrose.storage import LocalDirectory
    from sucrose.storage.objects import Storage, StorageOptions

logger = logging.getLogger(__name__)

_LOOK_UP_S = 0.1
_ROUNDS = 3


class Sending:
    """Of one staged copy. Belongs to one thread.

    Args:
        copy: the staged copy.
        index: of it.
        storage: where its files belong.
        options: of that.
        tag: in the names of the files.
        engine: digests what is read.
        threads: which send.
        unwanted: gives everything up when it is set.
    """

    def __init__(
        self,
        copy: LocalDirectory,
        index: SnapshotIndex,
        storage: Storage,
        options: StorageOptions,
        tag: str,
        engine: Engine,
        threads: UploadThreads,
        unwanted: threading.Event,
    ) -> None:
        self._copy = copy
        self._index = index
        self._storage = storage
        self._put_nbytes = min(options.part_nbytes, storage.limits.max_nbytes)
        self._tag = tag
        self._engine = engine
        self._threads = threads
        self._unwanted = unwanted
        self._tickets: deque[UploadTicket] = deque()

    def send_missing(self, *, is_fresh: bool) -> None:
        """Returns when all files are in the store, as a listing has just shown.

        Args:
            is_fresh: whether nothing can be there yet.

        Raises:
            CorruptionError: a file was changed since it was staged.
            StorageError: one could not be sent, or does not stay there.
        """
        missing = self._index.own_files() if is_fresh else self._missing()
        for _ in range(_ROUNDS):
            if not missing:
                return
            self._send(missing)
            missing = self._missing(after=missing)
        if missing:
            url = f"{self._storage.url}/{next(iter(missing))}"
            raise StorageError(
                errno.ESTALE, "was sent and is not there: somebody else removes files there", url, path=url
            )

    def check_wanted(self) -> None:
        """Raises InterruptedError where nobody wants the upload to go on."""
        if self._unwanted.is_set():
            raise InterruptedError(errno.EINTR, "the upload was interrupted", self._storage.url)

    def abort_parts(self) -> None:
        """Of uploads that a dead one had begun: nobody else has this tag, and the copy is leased."""
        try:
            for folder in tagged_folders(self._tag):
                self._storage.within(folder.rstrip("/")).abort_abandoned(0)
        except StorageError as error:  # not everybody may list them; they go when they are old
            logger.info("parts that were sent to %s before stay for now: %s", self._storage.url, error)

    def _missing(self, *, after: dict[str, FileRecord] | None = None) -> dict[str, FileRecord]:
        """What is not there; `after` some files were sent without an error."""
        files = self._index.own_files()
        try:
            listed = [file for folder in tagged_folders(self._tag) for file in self._storage.list(folder)]
        except AccessDeniedError as error:  # not everybody who may write may list
            logger.info("%s cannot be listed, so what was sent is believed to be there: %s", self._storage.url, error)
            return files if after is None else {}
        stored = {file.name: file.nbytes for file in listed}
        return {name: record for name, record in files.items() if stored.get(name) != record.nbytes_on_disk}

    def _send(self, files: dict[str, FileRecord]) -> None:
        try:
            for name, record in files.items():
                if len(self._tickets) == MAX_UNDER_WAY:
                    self._wait_for_oldest()
                self._begin(name, record)
            while self._tickets:
                self._wait_for_oldest()
        except BaseException:
            for ticket in self._tickets:
                ticket.cancel()
            for ticket in self._tickets:
                ticket.give_up()
            raise

    def _begin(self, name: str, record: FileRecord) -> None:
        UploadTicket(
            partial(FileRelay, self._copy, name, record, self._engine, self._index.digest),
            self._storage,
            name,
            nbytes=record.nbytes_on_disk,
            put_nbytes=self._put_nbytes,
            is_encoded=False,
            is_staged=False,
            threads=self._threads,
            known=self._tickets,
        )

    def _wait_for_oldest(self) -> None:
        while not ends_within(self._tickets[0], _LOOK_UP_S):
            self.check_wanted()
        self._tickets[0].wait()
        self._tickets.popleft()

"""The place of a take in a staging folder: a hidden directory that becomes a staged copy, with its note in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, final

from sucrose.errors import StorageFullError
from sucrose.formats.index import index_names
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.signature import signature_names
from sucrose.snapshot.places.files import FilesPlace
from sucrose.snapshot.places.place import CommitFiles, StagedPlace
from sucrose.snapshot.staged_upload.note import NOTE_FILE
from sucrose.snapshot.staged_upload.upload_queue import queue_of
from sucrose.snapshot.take_errors import explained
from sucrose.storage import StagedDirectory
from sucrose.storage.free_space import check_free_space

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.snapshot.collective.parts import Part
    from sucrose.snapshot.places.target import TakeTarget
    from sucrose.snapshot.staged_upload.upload import StagedUpload


@final
class FilesToUpload(FilesPlace, StagedPlace):
    """A `StagedDirectory` whose files have the names that they will have in the store."""

    _is_staged = False

    def __init__(
        self, directory: StagedDirectory, engine: Engine, upload: StagedUpload, tag: str, *, durable: bool
    ) -> None:
        super().__init__(directory, engine, durable=durable)
        self._staged = directory
        self._upload = upload
        self._tag = tag

    def finish(self) -> None:
        """The commit makes all durable at once."""

    def check(self, parts: Sequence[Part], *, overwrite: bool) -> None:
        """Nobody else has this name, nor puts anything here."""

    def commit(self, files: CommitFiles, *, overwrite: bool, alive: Callable[[], object]) -> None:  # noqa: ARG002 - at the URL
        self.write(index_names(files.metadata)[0], files.encoded_index)
        if files.signature is not None:
            self.write(signature_names(files.metadata)[0], files.signature)
        self.write(NOTE_FILE, self._upload.noted(self._tag, files.metadata).encoded())
        self._upload.keep(self._staged.path_of(NOTE_FILE))
        self.write(METADATA_FILE, files.metadata)
        alive()
        self._staged.commit(self._unsynced, self._sync, overwrite=False)
        self._is_staged = True

    def discard(self) -> None:
        super().discard()
        if not self._is_staged:
            self._upload.let_go()

    def sweep(self) -> None:
        queue_of(self._upload.folder).add(self._upload)


def open_for_upload(
    target: TakeTarget, upload: StagedUpload, engine: Engine, *, certain_nbytes: int, durable: bool
) -> FilesToUpload:
    """The place of a take in its staging folder. Where that is full, earlier uploads are waited for: they make room.

    Raises:
        StorageFullError: there is too little space, and nothing to wait for.
        StorageError: the place cannot be made.
    """
    while True:
        try:
            check_free_space(target.location, certain_nbytes, replaces=False)
            break
        except StorageFullError:
            if not queue_of(upload.folder).wait_next():
                raise
    with explained(target.location, lambda: certain_nbytes):
        return FilesToUpload(StagedDirectory(target.location), engine, upload, target.tag, durable=durable)

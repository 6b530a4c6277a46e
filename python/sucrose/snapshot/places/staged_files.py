"""The place of a take on a file system, as rank 0 has it: the hidden directory becomes the snapshot."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, final

from sucrose.formats.index import INDEX_FILE
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.signature import SIGNATURE_FILE
from sucrose.snapshot.arguments import check_target, replacing
from sucrose.snapshot.collective.merging import check_files
from sucrose.snapshot.incremental.bases import base_paths
from sucrose.snapshot.incremental.dependents import lease_to_refer, note_dependent
from sucrose.snapshot.places.files import FilesPlace
from sucrose.snapshot.places.place import CommitFiles, StagedPlace

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.snapshot.collective.parts import Part
    from sucrose.storage import StagedDirectory


@final
class StagedFiles(FilesPlace, StagedPlace):
    """A `StagedDirectory`."""

    def __init__(self, directory: StagedDirectory, engine: Engine, *, durable: bool) -> None:
        super().__init__(directory, engine, durable=durable)
        self._staged = directory

    def finish(self) -> None:
        """The commit makes all durable at once."""

    def check(self, parts: Sequence[Part], *, overwrite: bool) -> None:
        check_files(parts, self._staged)
        check_target(self.target, overwrite)
        folders = {os.path.dirname(name) for part in parts[1:] for name in part.files}
        self._unsynced += [os.path.join(self._staged.root, name) for name in sorted(folders)]

    def commit(self, files: CommitFiles, *, overwrite: bool, alive: Callable[[], object]) -> None:
        self.write(INDEX_FILE, files.encoded_index)
        if files.signature is not None:
            self.write(SIGNATURE_FILE, files.signature)
        for base in base_paths(self._staged, files.index):
            self.hold([lease_to_refer(base)])
            self._unsynced += note_dependent(base, self.target)
        self.write(METADATA_FILE, files.metadata)
        alive()
        self._staged.commit(self._unsynced, self._sync, overwrite=overwrite, last_look=replacing(self.target))

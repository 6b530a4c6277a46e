"""`OpenedSnapshot`: what a reference to a snapshot reads with, once it is asked for something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

from sucrose.engine import get_engine
from sucrose.snapshot.authenticity import check_verify
from sucrose.snapshot.contents import load_metadata, load_stored_object
from sucrose.snapshot.incremental.bases import check_bases
from sucrose.snapshot.reading import ReadBatch
from sucrose.snapshot.remote.read_ahead import with_objects_ahead
from sucrose.snapshot.state_reader import StateReader

if TYPE_CHECKING:
    from sucrose.formats.index import SnapshotIndex
    from sucrose.formats.manifest import SnapshotMetadata
    from sucrose.formats.signing_keys import Signer
    from sucrose.storage import Directory


@final
class OpenedSnapshot:
    """The commit record and the index of one snapshot, loaded when they are wanted and kept. Not thread-safe.

    Args:
        directory: the snapshot.
        path: of the snapshot, for messages.
        signer: whose signature it must have, if any's.
        metadata: what it is known to hold, by whoever took it.

    Attributes:
        directory: where files are read from the next time.
    """

    def __init__(
        self, directory: Directory, path: str, signer: Signer | None, metadata: SnapshotMetadata | None = None
    ) -> None:
        self.directory = directory
        self._path = path
        self._signer = signer
        self._metadata = metadata
        self._index: SnapshotIndex | None = None
        self._has_index = False
        self._bases_are_checked = False

    @property
    def metadata(self) -> SnapshotMetadata:
        """The commit record.

        Raises:
            IncompleteSnapshotError: there is none.
            SignatureError: it is not signed with a key of the signer.
            CorruptionError: it is damaged.
        """
        if self._metadata is None:
            self._metadata = self._load()
        return self._metadata

    @property
    def index(self) -> SnapshotIndex | None:
        """The index; None where torchsnapshot wrote the snapshot, which has none. Raises as `metadata`."""
        _ = self.metadata
        if not self._has_index:  # what lies there now may be somebody else's: the record stays that of the take
            self._load()
        return self._index

    def forget(self) -> None:
        """Everything is loaded anew."""
        self._metadata = self._index = None
        self._has_index = self._bases_are_checked = False

    def batch(self, *, verify: bool, show_progress: bool | None, max_inflight_nbytes: int = 0) -> ReadBatch:
        """Collects what is to be read from its files.

        Raises:
            SignatureError: nothing is to be verified where signatures are demanded.
            IncompleteSnapshotError: there is no snapshot, or one that it needs is missing.
        """
        check_verify(self._signer, verify=verify)
        index = self.index
        if index is not None and not self._bases_are_checked:
            check_bases(self.directory, index, get_engine())
            self._bases_are_checked = True
        return ReadBatch(
            self.directory,
            index,
            get_engine(),
            verify=verify,
            show_progress=show_progress,
            max_inflight_nbytes=max_inflight_nbytes,
        )

    def reader(
        self, batch: ReadBatch, paths: Sequence[str], *, verify: bool, allow_pickle: bool, cast: bool
    ) -> StateReader:
        """Reads what is at the paths, and in the containers there; tensors come when `batch` is read."""
        index = self.index
        directory = with_objects_ahead(self.directory, self.metadata, index, paths)

        def load(location: str, key: str) -> Any:
            checked_by = index if verify else None
            return load_stored_object(directory, location, key, checked_by, allow_pickle=allow_pickle)

        return StateReader(self.metadata, batch, load, index.state_dict_metadata if index else {}, cast=cast)

    def _load(self) -> SnapshotMetadata:
        metadata, self._index = load_metadata(self.directory, self._path, self._signer)
        self._has_index = True
        return metadata

"""`Snapshot`: a reference to application state in storage."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import copy
from typing import Any

import torch

from sucrose.engine import get_engine
from sucrose.errors import CorruptionError, UnsupportedError
from sucrose.formats.index import INDEX_FILE, SnapshotIndex
from sucrose.formats.manifest import METADATA_FILE, Entry, SnapshotMetadata
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.arguments import check_single_process, check_storage_options
from sucrose.snapshot.capture import RANK, PrepareTensor
from sucrose.snapshot.contents import load_index, load_metadata, load_stored_object
from sucrose.snapshot.entries import find_entry
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.pending import PendingSnapshot
from sucrose.snapshot.reading import ReadBatch
from sucrose.snapshot.restore import RestoreReport, StateReader, restore_app_state
from sucrose.snapshot.stateful import AppState, check_app_state
from sucrose.snapshot.take_request import TakeRequest, async_take, take
from sucrose.snapshot.take_stats import TakeStats
from sucrose.snapshot.verify import Problem, VerifyReport, verify_files
from sucrose.storage import LocalDirectory, local_path


class Snapshot:
    """A reference to application state in storage.

    `Snapshot.take` writes one and returns a reference to it; `Snapshot(path)` refers to one that
    exists. Nothing is read before it is needed. Not thread-safe; different objects are independent.

    Example:
        >>> import tempfile, torch
        >>> from sucrose import Snapshot, StateDict
        >>> model = torch.nn.Linear(4, 2)
        >>> progress = StateDict(steps=100)
        >>> path = tempfile.mkdtemp() + "/step_100"
        >>> snapshot = Snapshot.take(path, {"model": model, "progress": progress})
        >>> progress["steps"] = 0
        >>> report = Snapshot(path).restore({"model": model, "progress": progress})
        >>> progress["steps"]
        100
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pg: Any = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Refers to the snapshot at `path`.

        Args:
            path: directory, optionally as ``fs://`` URL.
            pg: process group of the ranks that use the snapshot; single-process use needs none.
            storage_options: for the storage; the local one has none.
        """
        self.path = os.fspath(path)
        self._storage = LocalDirectory(os.path.abspath(local_path(path)))
        self._metadata: SnapshotMetadata | None = None
        self._index: SnapshotIndex | None = None
        self._stats: TakeStats | None = None
        check_storage_options(storage_options)
        check_single_process(pg)

    @classmethod
    def take(
        cls,
        path: str | os.PathLike[str],
        app_state: AppState,
        pg: Any = None,
        replicated: list[str] | None = None,  # noqa: ARG003  # means nothing with one rank
        storage_options: Mapping[str, Any] | None = None,
        _custom_tensor_prepare_func: PrepareTensor | None = None,
        *,
        durable: bool = True,
        overwrite: bool = False,
        progress: bool | None = None,
    ) -> Snapshot:
        """Writes `app_state` to `path` and returns a reference to it.

        The snapshot appears at `path` in one instant, complete: an error, a crash or a power cut
        leaves what was there before. Random generators are left as they were.

        Args:
            path: directory to create, optionally as ``fs://`` URL; its parents are created too.
            app_state: names to statefuls; at most one `RNGState`.
            pg: process group; single-process use needs none.
            replicated: globs of values that are equal on all ranks; with one rank all are.
            storage_options: for the storage; the local one has none.
            _custom_tensor_prepare_func: called with (logical path, tensor, False) for every tensor;
                what it returns is written in its place.
            durable: fsync everything before returning. Without it a power cut may lose or damage
                the snapshot; a crash of the process still cannot.
            overwrite: replace a snapshot that is at `path`.
            progress: show a progress bar; by default on a terminal, after two seconds.

        Raises:
            TypeError: `app_state` has something that is no stateful.
            UnsupportedError: a tensor without data, or a value that cannot be pickled.
            FileExistsError: there is something at `path`, and `overwrite` is false or it is no
                snapshot.
            NotDurableError: the snapshot is at `path`, but its folder could not be fsynced. What it has
                replaced is kept beside it, under a hidden name that the message tells.
            OSError: writing failed; nothing was committed.
        """
        reference = cls(path, pg, storage_options)
        return reference._committed(
            *take(
                TakeRequest(
                    path=path,
                    app_state=app_state,
                    pg=pg,
                    storage_options=storage_options,
                    prepare=_custom_tensor_prepare_func,
                    durable=durable,
                    overwrite=overwrite,
                    progress=progress,
                )
            )
        )

    @classmethod
    def async_take(
        cls,
        path: str | os.PathLike[str],
        app_state: AppState,
        pg: Any = None,
        replicated: list[str] | None = None,  # noqa: ARG003  # means nothing with one rank
        storage_options: Mapping[str, Any] | None = None,
        _custom_tensor_prepare_func: PrepareTensor | None = None,
        *,
        durable: bool = True,
        overwrite: bool = False,
    ) -> PendingSnapshot:
        """Like `take`, but returns as soon as `app_state` may be changed; the rest goes on meanwhile.

        Tensors are copied to memory before it returns, on the device or on the host, as far as there
        is room for them; with too little room it returns when they are written. Up to 32 snapshots may
        be pending, then the oldest is waited for first: they are committed in the order of the calls. A
        pending snapshot is committed whether or not anybody waits for it, also when the program ends.

        Args:
            path: as for `take`, and so are the others.
            app_state: names to statefuls; may be changed, resized and freed afterwards.
            pg: process group.
            replicated: globs of values that are equal on all ranks.
            storage_options: for the storage.
            _custom_tensor_prepare_func: called before this returns.
            durable: fsync everything before the commit.
            overwrite: replace a snapshot that is at `path` when this one is committed.

        Returns:
            What to wait for, ask and cancel.

        Raises:
            Exception: as `take`; and the error of an earlier `async_take` that failed, where nobody
                has been told of it yet. Nothing was begun then. Errors of writing are raised by
                `PendingSnapshot.wait`, by the next take, or reported when the program ends.
        """
        reference = cls(path, pg, storage_options)
        return async_take(
            TakeRequest(
                path=path,
                app_state=app_state,
                pg=pg,
                storage_options=storage_options,
                prepare=_custom_tensor_prepare_func,
                durable=durable,
                overwrite=overwrite,
            ),
            reference._committed,
        )

    def restore(
        self,
        app_state: AppState,
        strict: bool = True,
        *,
        verify: bool = True,
        allow_pickle: bool = False,
        cast: bool = False,
        progress: bool | None = None,
    ) -> RestoreReport:
        """Restores `app_state` in place, from this snapshot.

        Tensors are read straight into the memory of the program's own. All shapes, dtypes and keys
        are checked before the first byte is changed.

        Args:
            app_state: all or some of the names that were saved.
            strict: handed to `nn.Module.load_state_dict`.
            verify: check the digest of everything that is read.
            allow_pickle: restore objects that need a full unpickler, which may run code.
            cast: convert tensors whose dtype differs instead of raising.
            progress: show a progress bar; by default on a terminal, after two seconds.

        Raises:
            IncompleteSnapshotError: there is no snapshot at the path.
            RuntimeError: a name in `app_state` is not in the snapshot.
            StateMismatchError: shapes, dtypes or keys differ; nothing was changed.
            UnsafeObjectError: an object needs `allow_pickle`; nothing was changed.
            CorruptionError: the snapshot is damaged; tensors may have been overwritten.
        """
        check_app_state(app_state)
        batch = self._batch(verify=verify, show_progress=progress)
        reader = self._reader(batch, verify=verify, allow_pickle=allow_pickle, cast=cast)
        return restore_app_state(app_state, self.metadata, reader, batch, strict=strict, snapshot_path=self.path)

    def read_object(
        self,
        path: str,
        obj_out: Any = None,
        memory_budget_bytes: int | None = None,
        *,
        verify: bool = True,
        allow_pickle: bool = False,
    ) -> Any:
        """Reads one value, or one container of values.

        Args:
            path: ``"<rank>/<stateful>/<flattened path>"``, e.g. ``"0/model/layer.weight"``.
            obj_out: tensor to read into, of the same shape and dtype.
            memory_budget_bytes: bound of the memory needed besides the result, rounded up to one
                chunk of 4 MiB.
            verify: check the digest of everything that is read.
            allow_pickle: as for `restore`.

        Returns:
            The value; `obj_out` where that was given and the value is a tensor.

        Raises:
            RuntimeError: nothing is stored at `path`; the message lists near matches.
            StateMismatchError: `obj_out` has another shape or dtype.
        """
        if memory_budget_bytes is not None and memory_budget_bytes <= 0:
            raise ValueError(f"memory_budget_bytes is {memory_budget_bytes}; it must be positive")
        entry = find_entry(self.metadata, path)
        batch = self._batch(verify=verify, show_progress=None, max_inflight_nbytes=memory_budget_bytes or 0)
        reader = self._reader(batch, verify=verify, allow_pickle=allow_pickle, cast=False)
        with torch.no_grad(), collector_paused():
            value = reader.build(path, entry, obj_out)
        reader.mismatches += reader.unfillable
        reader.raise_mismatches(self.path)
        batch.read()
        return value

    def get_state_dict_for_key(self, key: str, *, verify: bool = True, allow_pickle: bool = False) -> dict[str, Any]:
        """The state dict of one stateful, in new CPU tensors; no target is needed.

        Raises:
            RuntimeError: `key` was not saved.
        """
        return self.read_object(  # type: ignore[no-any-return]  # a stateful's root is its dict
            f"{RANK}/{encode_key(key)}", verify=verify, allow_pickle=allow_pickle
        )

    def get_manifest(self) -> dict[str, Entry]:
        """All entries, by ``"<rank>/<logical path>"``; a copy."""
        return dict(self.metadata.manifest)

    @property
    def metadata(self) -> SnapshotMetadata:
        """Version, world size and manifest.

        Raises:
            IncompleteSnapshotError: there is no commit record at the path.
            CorruptionError: it is damaged.
        """
        if self._metadata is None:
            self._metadata, self._index = load_metadata(self._storage, self.path)
        return self._metadata

    @property
    def stats(self) -> TakeStats | None:
        """What `take` measured; None for a snapshot that another object took."""
        return self._stats

    def verify(self) -> VerifyReport:
        """Reads all files and compares every digest; restores nothing.

        Returns:
            A report that is true where nothing is wrong.

        Raises:
            IncompleteSnapshotError: there is no commit record at the path.
            UnsupportedError: the snapshot has no digests (torchsnapshot wrote it).
        """
        try:
            self._metadata = self._index = None  # from storage, not from memory
            metadata = self.metadata
            index = self._load_index()
        except CorruptionError as error:
            file = METADATA_FILE if METADATA_FILE in str(error.path) else INDEX_FILE
            problem = Problem(file=file, offset=None, keys=(), message=str(error))
            return VerifyReport(files=0, nbytes=0, seconds=0.0, problems=(problem,))
        if index is None:
            raise UnsupportedError(f"{self.path} has no digests to verify", path=self.path)
        return verify_files(self._storage, metadata, index, get_engine())

    def _committed(self, metadata: SnapshotMetadata, stats: TakeStats) -> Snapshot:
        """A reference of its own to the snapshot that was just committed at this one's path."""
        snapshot = copy(self)
        snapshot._metadata = metadata  # noqa: SLF001 - of this class
        snapshot._stats = stats  # noqa: SLF001
        return snapshot

    def __repr__(self) -> str:
        return f"Snapshot({self.path!r})"

    def _load_index(self) -> SnapshotIndex | None:
        if self._index is None:
            self._index = load_index(self._storage)
        return self._index

    def _batch(self, *, verify: bool, show_progress: bool | None, max_inflight_nbytes: int = 0) -> ReadBatch:
        return ReadBatch(
            self._storage,
            self._index_of_metadata(),
            get_engine(),
            verify=verify,
            show_progress=show_progress,
            max_inflight_nbytes=max_inflight_nbytes,
        )

    def _index_of_metadata(self) -> SnapshotIndex | None:
        _ = self.metadata  # raises where there is no snapshot at all
        return self._load_index()

    def _reader(self, batch: ReadBatch, *, verify: bool, allow_pickle: bool, cast: bool) -> StateReader:
        index = self._index_of_metadata()

        def load(location: str, key: str) -> Any:
            checked_by = index if verify else None
            return load_stored_object(self._storage, location, key, checked_by, allow_pickle=allow_pickle)

        return StateReader(self.metadata, batch, load, index.state_dict_metadata if index else {}, cast=cast)

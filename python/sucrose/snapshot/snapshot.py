"""`Snapshot`: a reference to application state in storage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import torch

from sucrose.compression import Compression
from sucrose.engine import get_engine
from sucrose.errors import ConfigError, CorruptionError, UnsupportedError
from sucrose.formats.index import INDEX_FILE
from sucrose.formats.manifest import METADATA_FILE, Entry, SnapshotMetadata
from sucrose.formats.signature import SIGNATURE_FILE
from sucrose.formats.signing_keys import SIGNING_KEY, Signer, SigningKey
from sucrose.ranks import Ranks
from sucrose.snapshot.allocation import collector_paused
from sucrose.snapshot.arguments import checked_globs
from sucrose.snapshot.authenticity import signer_of
from sucrose.snapshot.capture import PrepareTensor
from sucrose.snapshot.entries import find_entry
from sucrose.snapshot.flatten import encode_key
from sucrose.snapshot.incremental.bases import base_paths
from sucrose.snapshot.incremental.flattening import flatten_snapshot
from sucrose.snapshot.opened import OpenedSnapshot
from sucrose.snapshot.pending import PendingSnapshot
from sucrose.snapshot.restore import RestoreReport, restore_app_state
from sucrose.snapshot.signing import sign_snapshot
from sucrose.snapshot.stateful import AppState, check_app_state
from sucrose.snapshot.take_request import TakeRequest, async_take, failing_on_all, take
from sucrose.snapshot.take_stats import TakeStats
from sucrose.snapshot.verify import Problem, VerifyReport, verify_files
from sucrose.storage import is_url, local_path, location_of, open_directory

if TYPE_CHECKING:
    from sucrose.snapshot.staged_upload.upload import StagedUpload


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

    _upload: StagedUpload | None = None
    """Of one that was staged."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        pg: Any = None,
        storage_options: Mapping[str, Any] | None = None,
        *,
        signing_key: SigningKey | Signer | None = None,
    ) -> None:
        """Refers to the snapshot at `path`.

        Args:
            path: directory, or URL of a folder in an object store.
            pg: process group of the ranks that restore it together; the default group where it is None.
            storage_options: for the object store, see docs/storage.md; paths have none.
            signing_key: the snapshot is read only where it is signed with this key, or with any of several; left
                out it is what `SUCROSE_SIGNING_KEY` says, and without that signatures are not looked at.

        Raises:
            ConfigError: a signing key has less than 16 bytes, there is no storage for the URL, or a package is missing
                that it needs.
        """
        self.path = os.fspath(path)
        self._storage_options = storage_options
        directory = open_directory(path, storage_options)
        self._signer = signer_of(signing_key)
        self._opened = OpenedSnapshot(directory, self.path, self._signer)
        self._stats: TakeStats | None = None
        self._pg = pg

    @classmethod
    def take(
        cls,
        path: str | os.PathLike[str],
        app_state: AppState,
        pg: Any = None,
        replicated: list[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        _custom_tensor_prepare_func: PrepareTensor | None = None,
        *,
        durable: bool = True,
        overwrite: bool = False,
        base: str | os.PathLike[str] | Snapshot | None = None,
        fingerprints: bool = False,
        compression: Compression | str | None = None,
        signing_key: SigningKey | Signer | None = None,
        staging_dir: str | os.PathLike[str] | None = None,
        progress: bool | None = None,
    ) -> Snapshot:
        """Writes `app_state` to `path` and returns a reference to it.

        The snapshot appears at `path` in one instant, complete: an error, a crash or a power cut
        leaves what was there before. Random generators are left as they were.

        Where `torch.distributed` is set up, all ranks of the group call this together, and it is one snapshot: each
        writes its part, and either all of them return or all raise. See docs/distributed.md.

        Args:
            path: directory to create, with its parents, or URL of a folder in an object store. On several ranks it is
                on storage that they share; rank 0's counts.
            app_state: names to statefuls; at most one `RNGState`.
            pg: process group of the ranks that take part; the default group where it is None.
            replicated: globs of paths as in ``"model/**"``, for values that are the same on all ranks: they are
                written once, and any number of ranks restores them. Only globs that all ranks give count.
                `DistributedDataParallel` modules need none.
            storage_options: for the object store, see docs/storage.md; paths have none.
            _custom_tensor_prepare_func: called with (logical path, tensor, False) for every tensor;
                what it returns is written in its place.
            durable: fsync everything before returning. Without it a power cut may lose or damage
                the snapshot; a crash of the process still cannot.
            overwrite: replace a snapshot that is at `path`.
            base: an earlier snapshot. Tensors, or pieces of large ones, that are as they were there are not
                written; the new snapshot refers to them, and needs the base from then on. See docs/incremental.md.
            fingerprints: store what the next snapshot needs to find out what has changed since this one. Takes with
                a base always do.
            compression: of the tensors: ``"zstd"``, ``"zstd:LEVEL"``, ``"auto"``, ``"none"`` or a `Compression`;
                left out it is what `SUCROSE_COMPRESSION` says, none by default.
            signing_key: signs the snapshot, with the first of several; left out it is what
                `SUCROSE_SIGNING_KEY` says, none by default.
            staging_dir: folder on a fast local disk. The snapshot of a URL is committed there first, and this
                returns; it is uploaded in the background, see `uploaded` and docs/storage.md.
            progress: show a progress bar; by default on a terminal, after two seconds.

        Raises:
            TypeError: `app_state` has something that is no stateful.
            ConfigError: `compression` is none of those, or a signing key has less than 16 bytes.
            UnsupportedError: a tensor without data, or a value that cannot be pickled.
            FileExistsError: there is something at `path`, and `overwrite` is false, it is no snapshot, or
                other snapshots need it.
            IncompleteSnapshotError: there is no complete snapshot at `base`, or one that it needs is missing.
            CorruptionError: the base is damaged.
            NotDurableError: the snapshot is at `path`, but its folder could not be fsynced. What it has
                replaced is kept beside it, under a hidden name that the message tells.
            RankError: another rank has failed, or is silent; nothing was committed.
            OSError: writing failed; nothing was committed.
        """
        with failing_on_all(pg):
            reference = cls(path, pg, storage_options, signing_key=signing_key)
            reference._stage(staging_dir, overwrite=overwrite)
            globs = checked_globs(replicated)
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
                    base=_path_of(base),
                    fingerprints=fingerprints,
                    compression=compression,
                    signer=reference._signer,
                    progress=progress,
                    replicated=globs,
                    upload=reference._upload,
                ),
                reference._go_to,
            )
        )

    @classmethod
    def async_take(
        cls,
        path: str | os.PathLike[str],
        app_state: AppState,
        pg: Any = None,
        replicated: list[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        _custom_tensor_prepare_func: PrepareTensor | None = None,
        *,
        durable: bool = True,
        overwrite: bool = False,
        base: str | os.PathLike[str] | Snapshot | None = None,
        fingerprints: bool = False,
        compression: Compression | str | None = None,
        signing_key: SigningKey | Signer | None = None,
        staging_dir: str | os.PathLike[str] | None = None,
    ) -> PendingSnapshot:
        """Like `take`, but returns as soon as `app_state` may be changed; the rest goes on meanwhile.

        Tensors are copied to memory before it returns, on the device or on the host, as far as there
        is room for them; with too little room it returns when they are written. Up to 32 snapshots may
        be pending, then the oldest is waited for first: they are committed in the order of the calls. A
        pending snapshot is committed whether or not anybody waits for it, also when the program ends.

        Args:
            path: as for `take`, and so are the others.
            app_state: names to statefuls; may be changed, resized and freed afterwards.
            pg: process group; its ranks go on agreeing behind the program's back, through the group's store only.
            replicated: globs of values that are the same on all ranks.
            storage_options: for the storage.
            _custom_tensor_prepare_func: called before this returns.
            durable: fsync everything before the commit.
            overwrite: replace a snapshot that is at `path` when this one is committed.
            base: an earlier snapshot, which has to be committed. What has changed is found out before this returns,
                and nothing else is copied.
            fingerprints: store what the next snapshot needs to find out what has changed.
            compression: of the tensors; goes on in the background.
            signing_key: signs the snapshot.
            staging_dir: as for `take`; the commit is the one below that folder.

        Returns:
            What to wait for, ask and cancel.

        Raises:
            Exception: as `take`; and the error of an earlier `async_take` that failed, where nobody
                has been told of it yet. Nothing was begun then. Errors of writing are raised by
                `PendingSnapshot.wait`, by the next take, or reported when the program ends.
        """
        with failing_on_all(pg):
            reference = cls(path, pg, storage_options, signing_key=signing_key)
            reference._stage(staging_dir, overwrite=overwrite)
            globs = checked_globs(replicated)
        return async_take(
            TakeRequest(
                path=path,
                app_state=app_state,
                pg=pg,
                storage_options=storage_options,
                prepare=_custom_tensor_prepare_func,
                durable=durable,
                overwrite=overwrite,
                base=_path_of(base),
                fingerprints=fingerprints,
                compression=compression,
                signer=reference._signer,
                replicated=globs,
                upload=reference._upload,
            ),
            reference._committed,
            reference._go_to,
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
        are checked before the first byte is changed, on all ranks.

        Where `torch.distributed` is set up, all ranks of the group call this together. They may be more or fewer than
        those that have taken the snapshot, and tensors may be spread over them in another way.

        Args:
            app_state: all or some of the names that were saved.
            strict: handed to `nn.Module.load_state_dict`.
            verify: check the digest of everything that is read; a signing key demands it.
            allow_pickle: restore objects that need a full unpickler, which may run code.
            cast: convert tensors whose dtype differs instead of raising.
            progress: show a progress bar; by default on a terminal, after two seconds.

        Raises:
            IncompleteSnapshotError: there is no snapshot at the path.
            SignatureError: a signing key is set, and the snapshot is not signed with it; nothing was changed.
            RuntimeError: a name in `app_state` is not in the snapshot.
            StateMismatchError: shapes, dtypes or keys differ, or ranks see different snapshots; nothing was changed.
            UnsafeObjectError: an object needs `allow_pickle`; nothing was changed.
            RankError: another rank has failed, or is silent. Nothing was changed where that was before the reading.
            CorruptionError: the snapshot is damaged; tensors may have been overwritten.
        """
        with Ranks.of(self._pg).begin("restoring a snapshot") as exchange:
            check_app_state(app_state)
            batch = self._opened.batch(verify=verify, show_progress=progress if exchange.rank == 0 else False)
            paths = [f"{exchange.rank}/{encode_key(key)}" for key in app_state]
            reader = self._opened.reader(batch, paths, verify=verify, allow_pickle=allow_pickle, cast=cast)
            index = self._opened.index
            return restore_app_state(
                app_state,
                self.metadata,
                reader,
                batch,
                strict=strict,
                snapshot_path=self.path,
                identity=index.identity() if index is not None and exchange.world_size > 1 else b"",
                exchange=exchange,
            )

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
        batch = self._opened.batch(verify=verify, show_progress=None, max_inflight_nbytes=memory_budget_bytes or 0)
        reader = self._opened.reader(batch, [path], verify=verify, allow_pickle=allow_pickle, cast=False)
        with torch.no_grad(), collector_paused():
            value = reader.build_all(path, entry, obj_out)
        reader.mismatches += reader.unfillable
        reader.raise_mismatches(self.path)
        batch.read()
        return value

    def read_objects(self, paths: Sequence[str], *, verify: bool = True, allow_pickle: bool = False) -> list[Any]:
        """Reads several values at once: each file is gone through once, and tied tensors come out tied.

        Args:
            paths: as for `read_object`.
            verify: check the digest of everything that is read.
            allow_pickle: as for `restore`.

        Returns:
            The values, in the order of `paths`; tensors are new ones on the host.

        Raises:
            RuntimeError: nothing is stored at one of the paths.
        """
        entries = [find_entry(self.metadata, path) for path in paths]
        batch = self._opened.batch(verify=verify, show_progress=None)
        reader = self._opened.reader(batch, paths, verify=verify, allow_pickle=allow_pickle, cast=False)
        with torch.no_grad(), collector_paused():
            values = [reader.build_all(path, entry) for path, entry in zip(paths, entries, strict=True)]
        batch.read()
        return values

    def get_state_dict_for_key(self, key: str, *, verify: bool = True, allow_pickle: bool = False) -> dict[str, Any]:
        """The state dict of one stateful, in new CPU tensors; no target is needed.

        On several ranks it is that of this one; the others need not call it.

        Raises:
            RuntimeError: `key` was not saved.
        """
        return self.read_object(  # type: ignore[no-any-return]  # a stateful's root is its dict
            f"{Ranks.of(self._pg).rank}/{encode_key(key)}", verify=verify, allow_pickle=allow_pickle
        )

    def get_manifest(self) -> dict[str, Entry]:
        """All entries, by ``"<rank>/<logical path>"``; a copy."""
        return dict(self.metadata.manifest)

    @property
    def metadata(self) -> SnapshotMetadata:
        """Version, world size and manifest.

        Raises:
            IncompleteSnapshotError: there is no commit record at the path.
            SignatureError: a signing key is set, and the snapshot is not signed with it.
            CorruptionError: it is damaged.
        """
        return self._opened.metadata

    @property
    def bases(self) -> tuple[str, ...]:
        """Paths of the other snapshots that this one needs, straight or through them; none for a whole one.

        Raises:
            IncompleteSnapshotError: there is no commit record at the path.
            CorruptionError: it is damaged.
        """
        index = self._opened.index
        return () if index is None else base_paths(self._opened.directory, index)

    def flatten(self, target: str | os.PathLike[str] | None = None, *, durable: bool = True) -> Snapshot:
        """Writes a snapshot of the same content that needs no other, and returns a reference to it.

        What this one refers to is copied, whatever it was compressed by uncompressed; memory for two pieces of 64 MiB
        is all that it takes. Digests are compared on the way. Of several ranks one calls this.

        Args:
            target: where to; left out it takes the place of this one, in one instant.
            durable: fsync everything before returning.

        Raises:
            FileExistsError: there is something at `target`; or, without one, other snapshots need this one as it
                is: flatten those first.
            IncompleteSnapshotError: there is no snapshot, or one that it needs is missing.
            CorruptionError: something is damaged.
            OSError: reading or writing failed; nothing was committed.

        Example:
            >>> import tempfile, torch
            >>> from sucrose import Snapshot, StateDict
            >>> folder = tempfile.mkdtemp()
            >>> state = StateDict(frozen=torch.ones(3), trained=torch.zeros(3))
            >>> first = Snapshot.take(folder + "/step_1", {"state": state})
            >>> state["trained"] += 1
            >>> second = Snapshot.take(folder + "/step_2", {"state": state}, base=first)
            >>> len(second.bases), len(second.flatten().bases)
            (1, 0)
        """
        flatten_snapshot(
            self._opened.directory,
            self.path,
            None if target is None else os.path.abspath(local_path(target)),
            signer=self._signer,
            durable=durable,
            engine=get_engine(),
        )
        if target is None:
            self._opened.forget()
            return Snapshot(self.path, storage_options=self._storage_options, signing_key=self._signer)
        return Snapshot(target, signing_key=self._signer)

    @property
    def stats(self) -> TakeStats | None:
        """What `take` measured; None for a snapshot that another object took."""
        return self._stats

    def uploaded(self) -> bool:
        """Whether the snapshot is at its path. Where it was staged (`staging_dir`) it gets there in the background."""
        return True

    def wait_uploaded(self, timeout_s: float | None = None) -> None:
        """Blocks until the snapshot is at its path: at once, but for one that was staged.

        Raises:
            TimeoutError: not within `timeout_s` seconds.
            FileExistsError: another snapshot has come to be there. The staged copy stays, as with other errors.
            StorageError: uploading failed. The next take with the staging folder tries again.
        """

    def verify(self) -> VerifyReport:
        """Reads all files and compares every digest; restores nothing.

        Returns:
            A report that is true where nothing is wrong.

        Raises:
            IncompleteSnapshotError: there is no commit record at the path.
            SignatureError: a signing key is set, and the snapshot is not signed with it.
            UnsupportedError: the snapshot has no digests (torchsnapshot wrote it).
        """
        try:
            self._opened.forget()  # from storage, not from memory
            metadata, index = self._opened.metadata, self._opened.index
        except CorruptionError as error:
            name = os.path.basename(str(error.path))
            file = name if name.startswith((METADATA_FILE, SIGNATURE_FILE)) else INDEX_FILE
            problem = Problem(file=file, offset=None, keys=(), message=str(error))
            return VerifyReport(files=0, nbytes=0, seconds=0.0, problems=(problem,))
        if index is None:
            raise UnsupportedError(f"{self.path} has no digests to verify", path=self.path)
        return verify_files(self._opened.directory, metadata, index, get_engine())

    def sign(self) -> None:
        """Signs the snapshot as it is now, with the signing key, or the first of several.

        For snapshots that were taken without one, and to change keys: with the new one and the old one set, a
        signature by the old one is checked and replaced. Whoever signs a snapshot vouches for it. Unless it is signed
        with one of the keys already, all of its data is read, compared with its digests, and digested by SHA-256; the
        index is replaced. Of several ranks one calls this.

        Raises:
            ConfigError: no signing key is set.
            IncompleteSnapshotError: there is no commit record at the path.
            SignatureError: one of the keys has signed it, and it was changed since then.
            CorruptionError: it is damaged.
            UnsupportedError: it has no digests (torchsnapshot wrote it).
            OSError: reading or writing failed; the snapshot can be read as before.

        Example:
            >>> import tempfile, torch
            >>> from sucrose import Snapshot, StateDict
            >>> path = tempfile.mkdtemp() + "/step_1"
            >>> snapshot = Snapshot.take(path, {"state": StateDict(weight=torch.ones(3))})
            >>> Snapshot(path, signing_key="an example of a key").sign()
            >>> Snapshot(path, signing_key="an example of a key").read_object("0/state/weight")
            tensor([1., 1., 1.])
        """
        if self._signer is None:
            raise ConfigError(f"there is no key to sign with: set {SIGNING_KEY}, or give signing_key= to Snapshot")
        self._opened.forget()
        sign_snapshot(self._opened.directory, self._signer, self.path, get_engine())

    def _stage(self, staging_dir: str | os.PathLike[str] | None, *, overwrite: bool) -> None:
        """Has what is about to be taken come to its path by way of a staging folder."""
        if staging_dir is not None:
            from sucrose.snapshot.staged_upload.upload import StagedUpload

            self._upload = StagedUpload(staging_dir, self._storage_options, overwrite=overwrite)

    def _go_to(self, path: str) -> None:
        """Refers to another path from here on: that of rank 0."""
        self.path = path
        self._opened = OpenedSnapshot(open_directory(path, self._storage_options), path, self._signer)

    def _committed(self, metadata: SnapshotMetadata | None, stats: TakeStats) -> Snapshot:
        """A reference of its own to the snapshot that was just committed at this one's path."""
        snapshot = copy(self)
        if self._upload is not None:
            from sucrose.snapshot.staged_upload.staged_snapshot import StagedSnapshot

            snapshot = StagedSnapshot(self, self._upload)
        snapshot._opened = OpenedSnapshot(  # noqa: SLF001 - of this class
            self._opened.directory, self.path, self._signer, metadata
        )
        snapshot._stats = stats  # noqa: SLF001
        return snapshot

    def __repr__(self) -> str:
        return f"Snapshot({self.path!r})"


def _path_of(base: str | os.PathLike[str] | Snapshot | None) -> str | None:
    if base is None:
        return None
    path = location_of(base.path if isinstance(base, Snapshot) else base)
    if is_url(path):
        raise UnsupportedError(f"base={path!r}: snapshots cannot refer to one in an object store so far", path=path)
    return path

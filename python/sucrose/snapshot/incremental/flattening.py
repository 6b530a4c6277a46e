"""Making a snapshot whole: the same content, without bases.

1. The ranges of other snapshots' files that the manifest lists are planned into new data files.
2. Below a hidden directory, the snapshot's own files are copied (in place: linked), and the new data files written,
   window by window. All digests are compared on the way.
3. The manifest gets the new places, the index the new files, and the directory is put where it belongs; in place of
   the snapshot itself in one step, while nobody has a lease on it and no other snapshot refers to it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from sucrose.engine import Engine
from sucrose.errors import IncompleteSnapshotError, StorageError, UnsupportedError
from sucrose.formats.generation import GENERATION_FILE, without_bases
from sucrose.formats.index import INDEX_FILE, FileRecord, SnapshotIndex, encode_index
from sucrose.formats.manifest import METADATA_FILE, SnapshotMetadata, encode_metadata
from sucrose.formats.signature import SIGNATURE_FILE, encode_signature
from sucrose.options import current_options
from sucrose.snapshot.arguments import refuse_dependents
from sucrose.snapshot.contents import load_metadata
from sucrose.snapshot.incremental.bases import base_paths, check_bases
from sucrose.snapshot.incremental.file_copy import copy_checked, write_ranges
from sucrose.snapshot.incremental.referred_tensors import NewFile, Place, plan_new_files, referred_places, with_places
from sucrose.snapshot.records import record_of
from sucrose.storage import Directory, StagedDirectory
from sucrose.storage.free_space import check_free_space
from sucrose.storage.leases import Lease, lease, lease_for_removal

if TYPE_CHECKING:
    from sucrose.formats.signing_keys import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The snapshot that is made whole."""

    storage: Directory
    metadata: SnapshotMetadata
    index: SnapshotIndex


def flatten_snapshot(
    storage: Directory,
    snapshot_path: str,
    target: str | None,
    *,
    signer: Signer | None,
    durable: bool,
    engine: Engine,
) -> None:
    """Writes the snapshot to `target`, or in its own place; `Snapshot.flatten` says what it raises."""
    metadata, index = load_metadata(storage, snapshot_path, signer)
    if target is None and (index is None or not index.bases):
        return
    if index is None:
        raise UnsupportedError(
            f"{snapshot_path} has no index (torchsnapshot wrote it) and refers to nothing: copy its folder",
            path=snapshot_path,
        )
    source = _Source(storage=storage, metadata=metadata, index=index)
    if not storage.is_local:
        _flatten_from_objects(source, target, signer, durable=durable, engine=engine)
        return
    root = os.path.realpath(storage.root)
    with ExitStack() as held:
        for base in base_paths(storage, index):
            held.enter_context(_held(base, lease(base)))
        check_bases(storage, index, engine)
        held.enter_context(_held(root, lease_for_removal(root) if target is None else lease(root)))
        if target is None:
            refuse_dependents(root)
        else:
            _check_new(target)
        _flatten(source, target or root, signer, in_place=target is None, durable=durable, engine=engine)


def _flatten_from_objects(
    source: _Source, target: str | None, signer: Signer | None, *, durable: bool, engine: Engine
) -> None:
    if target is None:
        raise UnsupportedError(
            f"{source.storage.root} lies in an object store, where no snapshot is made whole in its own place: name a "
            "folder of this machine as target",
            path=source.storage.root,
        )
    check_bases(source.storage, source.index, engine)
    _check_new(target)
    _flatten(source, target, signer, in_place=False, durable=durable, engine=engine)


def _check_new(target: str) -> None:
    """Refuses what is there: only the snapshot itself can be replaced by its flat one."""
    if os.path.isdir(target) and not os.listdir(target):
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "something is here already: choose a path where nothing is", target)


def _held(path: str, held: Lease | None) -> Lease:
    if held is not None:
        return held
    if not os.path.exists(os.path.join(path, METADATA_FILE)):
        raise IncompleteSnapshotError(errno.ENOENT, "no complete snapshot here", path, path=path)
    why = "it is being read, or a snapshot is being written that refers to it: try again later"
    raise StorageError(errno.EBUSY, why, path, path=path)


def _flatten(
    source: _Source, target: str, signer: Signer | None, *, in_place: bool, durable: bool, engine: Engine
) -> None:
    """Steps 1 to 3."""
    own = source.index.own_files()
    files = plan_new_files(referred_places(source.metadata), set(own), current_options().max_file_nbytes)
    copied = 0 if in_place else sum(record.nbytes_on_disk for record in own.values())
    added = sum(file.nbytes for file in files)
    check_free_space(target, copied + added, replaces=in_place)
    staged = StagedDirectory(target)
    try:
        records = {
            name: _copy_own(source, staged, name, record, added_nbytes=added, link=in_place, engine=engine)
            for name, record in own.items()
        }
        for file in files:
            records[file.name] = write_ranges(
                staged.create_path(file.name), file.header, file.ranges(), source.storage, source.index, engine
            )
        paths = [staged.path_of(name) for name in records]
        paths += _write_commit(source, staged, files, records, signer, engine)
        staged.commit(paths, engine.sync if durable else None, overwrite=in_place)
    except BaseException:
        staged.discard()
        raise


def _copy_own(
    source: _Source,
    staged: StagedDirectory,
    name: str,
    record: FileRecord,
    *,
    added_nbytes: int,
    link: bool,
    engine: Engine,
) -> FileRecord:
    if name == GENERATION_FILE:  # it names the bases for whoever collects, and says how much that would free
        data = source.storage.read(name)
        data = without_bases(data, path=source.storage.path_of(name), added_nbytes=added_nbytes)
        staged.write(name, data)
        return record_of(data, engine, source.index.digest)
    copy_checked(source.storage, source.index, name, staged.create_path(name), engine, link=link)
    return record


def _write_commit(
    source: _Source,
    staged: StagedDirectory,
    files: list[NewFile],
    records: dict[str, FileRecord],
    signer: Signer | None,
    engine: Engine,
) -> Iterator[str]:
    moved: dict[Place, Place] = {}
    for file in files:
        moved |= file.moved()
    encoded = encode_metadata(with_places(source.metadata, moved))
    digest = source.index.digest
    index = msgspec.structs.replace(source.index, metadata=record_of(encoded, engine, digest), files=records, bases={})
    index.set_version()
    encoded_index = encode_index(index, engine.digest)
    yield staged.write(INDEX_FILE, encoded_index)
    if signer is not None:
        yield staged.write(SIGNATURE_FILE, encode_signature(signer, index=encoded_index, metadata=encoded))
    yield staged.write(METADATA_FILE, encoded)

"""The snapshots that a snapshot refers to: where they are, and whether they are still the same.

No torch is needed here.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from sucrose.engine import CHUNK_NBYTES
from sucrose.errors import CorruptionError, IncompleteSnapshotError, SucroseError
from sucrose.formats.index import decode_index
from sucrose.formats.limits import MAX_METADATA_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.snapshot.commit_record import read_index
from sucrose.snapshot.records import record_of
from sucrose.storage import Directory

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.formats.index import SnapshotIndex


def base_of(location: str, index: SnapshotIndex) -> str | None:
    """The name of the base in which a file lies; None for a file of the snapshot's own."""
    if not location.startswith("../"):
        return None
    # By the names of folders: there may be many files and many bases, and each may be a stranger's.
    at = location.find("/", 3)
    while at >= 0 and location[:at] not in index.bases:
        at = location.find("/", at + 1)
    return location[:at] if at >= 0 else None


def base_paths(storage: Directory, index: SnapshotIndex) -> tuple[str, ...]:
    """Absolute paths, or URLs, of the snapshots that this one needs, by name."""
    if not storage.is_local:
        return tuple(storage.beside(base).root for base in sorted(index.bases))
    return tuple(os.path.normpath(os.path.join(os.path.realpath(storage.root), base)) for base in sorted(index.bases))


def check_bases(storage: Directory, index: SnapshotIndex, engine: Engine) -> None:
    """Reads metadata and index of every base, and nothing else of it.

    Raises:
        IncompleteSnapshotError: a base is missing.
        CorruptionError: it is not the one that was referred to.
    """
    for base in index.bases:
        check_base(storage, index, base, engine)


def check_base(storage: Directory, index: SnapshotIndex, base: str, engine: Engine) -> None:
    """The same of one."""
    other = storage.beside(base)
    try:
        data = other.read(METADATA_FILE, MAX_METADATA_NBYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IncompleteSnapshotError(
            errno.ENOENT,
            f"{storage.root} refers to the snapshot {base}, which is not there any more: put it back, or restore "
            "another snapshot. Snapshots that are moved have to be moved together, unless they were flattened before",
            other.path_of(METADATA_FILE),
            path=storage.root,
        ) from error
    if record_of(data, engine, index.digest) != index.bases[base].metadata or _has_other_files(
        other, data, index, base, engine
    ):
        raise CorruptionError(
            f"{storage.root} refers to the snapshot {base}, and another one is there now: put the old one back, or "
            "restore another snapshot",
            path=storage.root,
        )


def _has_other_files(other: Directory, metadata: bytes, index: SnapshotIndex, base: str, engine: Engine) -> bool:
    """Whether the base itself says that it has other bytes: metadata are alike where only tensors have changed."""
    try:
        found = read_index(other, metadata)
        if found is None:
            return False
        there = decode_index(found.data, engine.digest, chunk_nbytes=CHUNK_NBYTES, path=other.path_of(found.name))
    except (SucroseError, OSError):  # nobody needs it for what is referred to
        return False
    return there.digest == index.digest and any(
        there.files.get(name[len(base) + 1 :]) != record
        for name, record in index.files.items()
        if base_of(name, index) == base
    )


def refer_to(storage: Directory, index: SnapshotIndex) -> None:
    """Makes those files of the bases readable in `storage` that the index lists, and no others.

    Raises:
        CorruptionError: a base, or a file of one, is named by a path that leads elsewhere.
    """
    names: dict[str, list[str]] = {base: [] for base in index.bases}
    for name in index.files if names else ():
        base = base_of(name, index)
        if base is not None:
            names[base].append(name)
    for base, there in names.items():
        storage.refer(base, there)

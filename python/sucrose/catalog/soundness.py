"""Whether a generation is what was committed, and what speaks against it.

No torch is needed here: listing and collecting stay quick to start.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from xxhash import xxh3_128_digest

from sucrose.engine import CHUNK_NBYTES, Engine, get_engine
from sucrose.engine.digests import digest_function
from sucrose.errors import CorruptionError, IncompleteSnapshotError, SucroseError
from sucrose.formats.generation import GENERATION_FILE
from sucrose.formats.index import FileRecord, SnapshotIndex, decode_index, index_names
from sucrose.formats.limits import MAX_INDEX_NBYTES, MAX_METADATA_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.signature import check_signed_digest
from sucrose.snapshot.authenticity import check_signed
from sucrose.snapshot.chunk_damage import chunk_damage
from sucrose.snapshot.incremental.bases import check_bases, refer_to
from sucrose.snapshot.records import stored_chunks
from sucrose.snapshot.remote.sizes import Sizes
from sucrose.snapshot.transfers import begin_verify
from sucrose.storage import is_url

if TYPE_CHECKING:
    from sucrose.formats.signing_keys import Signer
    from sucrose.storage import Directory

_DAMAGE_ERRNOS = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN})
_MISSING_ERRNOS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})


def check_structure(
    storage: Directory, record_file: str | None = GENERATION_FILE, *, signer: Signer | None = None
) -> SnapshotIndex:
    """Checks the small files by their digests, and that all others are there with their sizes.

    Args:
        storage: the snapshot.
        record_file: name of a small file besides metadata and index that it has to have, if any.
        signer: whose signature it must have, if any's.

    Returns:
        The index, for `check_contents`.

    Raises:
        SignatureError: it is not signed with a key of `signer`.
        CorruptionError: something is missing or was changed.
        FormatVersionError: a newer release wrote it.
        OSError: a file cannot be read; `damage_of` tells whether that is the generation's fault.
    """
    metadata_path = storage.path_of(METADATA_FILE)
    try:
        metadata = storage.read(METADATA_FILE, MAX_METADATA_NBYTES)
    except FileNotFoundError as error:
        raise IncompleteSnapshotError(
            errno.ENOENT, "the commit record is missing", metadata_path, path=storage.root
        ) from error
    name, encoded = _read_index(storage, metadata)
    check_signed(storage, signer, index=encoded, metadata=metadata, snapshot_path=storage.root)
    index = decode_index(encoded, xxh3_128_digest, chunk_nbytes=CHUNK_NBYTES, path=storage.path_of(name))
    if signer is not None:
        check_signed_digest(index.digest, snapshot_path=storage.root)
    if not _matches(metadata, index.metadata, index.digest):
        raise CorruptionError(f"{metadata_path} is not the one that the index belongs to", path=metadata_path)
    refer_to(storage, index)
    check_bases(storage, index, get_engine())
    sizes = Sizes(storage)
    for name, record in index.files.items():
        path = storage.path_of(name)
        nbytes = sizes.of(name)
        if nbytes != record.nbytes_on_disk:
            raise CorruptionError(f"{path} has {nbytes} bytes, expected {record.nbytes_on_disk}", path=path)
    if record_file is not None:
        read_indexed(storage, index, record_file)
    return index


def read_indexed(storage: Directory, index: SnapshotIndex, name: str) -> bytes:
    """A small file, checked by its digest.

    Raises:
        CorruptionError: the index does not know it, or it was changed.
        OSError: it cannot be read.
    """
    own = index.files.get(name)
    data = b"" if own is None else storage.read(name, own.nbytes)
    if own is None or not _matches(data, own, index.digest):
        path = storage.path_of(name)
        raise CorruptionError(f"{path} is not the one that the index belongs to", path=path)
    return data


def check_contents(storage: Directory, index: SnapshotIndex, engine: Engine) -> None:
    """Reads all files and compares every digest.

    Raises:
        CorruptionError: bytes differ from what was saved.
        OSError: a file cannot be read.
    """
    for name, record in index.files.items():
        path = storage.path_of(name)
        result = begin_verify(
            storage,
            engine,
            name,
            file_nbytes=record.nbytes,
            digests=record.packed_digests(),
            stored=stored_chunks(record),
            digest_kind=index.digest,
        ).wait()
        for chunk in result.corrupt:
            offset = chunk.index * CHUNK_NBYTES
            raise CorruptionError(chunk_damage(chunk, path, offset=offset), path=path, offset=offset)


def is_ours(storage: Directory) -> bool:
    """Whether a directory without `.generation` was a generation once: its index then knows of it."""
    metadata = b""
    with suppress(OSError, SucroseError):
        metadata = storage.read(METADATA_FILE, MAX_METADATA_NBYTES)
    try:
        name, data = _read_index(storage, metadata)
        index = decode_index(data, xxh3_128_digest, chunk_nbytes=CHUNK_NBYTES, path=storage.path_of(name))
    except (OSError, SucroseError):
        return False
    return GENERATION_FILE in index.files


def damage_of(error: BaseException, path: str, bases: Iterable[str] = ()) -> str | None:
    """What is broken about the generation at `path`, in one line; None where the error is about something else.

    `bases` are paths of those that it refers to: their damage is its own.

    What is missing, short, unreadable or changed there is damage. That the program's state does not fit, that a
    newer release wrote it, or that there are no rights, descriptors or memory to read it is none.
    """
    if isinstance(error, CorruptionError):
        is_damage = error.path is None or _lies_in(error.path, path, *bases)
    elif isinstance(error, IncompleteSnapshotError):
        is_damage = _lies_in(error.path, path, *bases)
    elif isinstance(error, OSError) and error.errno in _DAMAGE_ERRNOS | _MISSING_ERRNOS:
        # A store that fails says nothing about its files: EIO from there is no bad disk.
        is_damage = _lies_in(error.filename, path, *bases) and (error.errno in _MISSING_ERRNOS or not is_url(path))
    else:
        is_damage = False
    return " ".join(str(error).split()) if is_damage else None


def _read_index(storage: Directory, metadata: bytes) -> tuple[str, bytes]:
    """Name and contents of the index that goes with a commit record."""
    name, plain_name = index_names(metadata)
    try:
        return name, storage.read(name, MAX_INDEX_NBYTES)
    except FileNotFoundError:
        return plain_name, storage.read(plain_name, MAX_INDEX_NBYTES)


def _matches(data: bytes, record: FileRecord, digest_kind: str) -> bool:
    digest = digest_function(digest_kind)
    digests = b"".join(digest(data[at : at + CHUNK_NBYTES]) for at in range(0, len(data), CHUNK_NBYTES))
    return record == FileRecord(len(data), digests.hex())


def _lies_in(file: object, *paths: str) -> bool:
    if not isinstance(file, (str, bytes)):
        return False
    name = os.fsdecode(file)
    if not is_url(name):
        name = os.path.abspath(name)
    return any(name == path or name.startswith(path + os.sep) for path in paths)

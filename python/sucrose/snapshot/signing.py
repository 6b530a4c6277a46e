"""Signing a snapshot that is there already.

1. A signature that it has must not be that of a known key for other contents.
2. All data is read once: checked by the digests that the index has, and digested anew by SHA-256.
3. The index with the new digests takes the place of the old one, then the signature does. Between the two the
   snapshot is what it was to everybody without a key, and is refused by those with one.

Where the signature is valid and only its key is to change, steps 2 and 3 are the signature alone.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import msgspec

from sucrose.engine import CHUNK_NBYTES
from sucrose.errors import UnsupportedError
from sucrose.formats.index import INDEX_FILE, SHA256_NAME, BaseRecord, FileRecord, SnapshotIndex, encode_index
from sucrose.formats.limits import MAX_METADATA_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.signature import check_signature, encode_signature, is_signed_by_known_key, signature_names
from sucrose.snapshot.authenticity import read_signature
from sucrose.snapshot.commit_record import NamedFile, read_commit
from sucrose.snapshot.contents import index_of_commit
from sucrose.snapshot.incremental.bases import check_bases, refer_to
from sucrose.snapshot.incremental.file_ranges import FileRange, read_ranges
from sucrose.snapshot.records import record_of
from sucrose.snapshot.remote.sizes import Sizes
from sucrose.snapshot.tensors import buffer_address
from sucrose.storage import Directory
from sucrose.storage.leases import lease

if TYPE_CHECKING:
    from sucrose.engine import Engine
    from sucrose.formats.signing_keys import Signer

_WINDOW_NBYTES = 16 * CHUNK_NBYTES


def sign_snapshot(storage: Directory, signer: Signer, snapshot_path: str, engine: Engine) -> None:
    """Signs the snapshot as it is now, with the first key.

    Raises:
        IncompleteSnapshotError: there is no commit record.
        SignatureError: one of the keys has signed it, and it was changed since then.
        CorruptionError: it is damaged.
        UnsupportedError: it has no index (torchsnapshot wrote it).
        OSError: a file could not be read or written; the snapshot can be read as before.
    """
    held = lease(storage.root) if storage.is_local else None
    with held or nullcontext():  # a catalog must not remove it meanwhile
        metadata, encoded = read_commit(storage, snapshot_path)
        if encoded is None:
            raise UnsupportedError(
                f"{snapshot_path} has no index, which a signature could cover (torchsnapshot wrote it): restore it and "
                "take it anew",
                path=snapshot_path,
            )
        signature = read_signature(storage, metadata)
        is_known = signature is not None and is_signed_by_known_key(signature.data, signer)
        if signature is not None and is_known:
            check_signature(signature.data, signer, index=encoded.data, metadata=metadata, snapshot_path=snapshot_path)
        index = index_of_commit(storage, metadata, encoded)
        if not is_known or index.digest != SHA256_NAME:
            index = _with_new_digests(storage, index, metadata, engine)
            encoded = NamedFile(encoded.name, encode_index(index, engine.digest))
            storage.replace(encoded.name, encoded.data, engine.sync)
        name = _signature_name(metadata, encoded.name if signature is None else signature.name)
        storage.replace(name, encode_signature(signer, index=encoded.data, metadata=metadata), engine.sync)


def _signature_name(metadata: bytes, like: str) -> str:
    """The name that goes with that of the index; a signature that is there already keeps its own."""
    of_digest, plain = signature_names(metadata)
    return plain if like in (INDEX_FILE, plain) else of_digest


def _with_new_digests(storage: Directory, index: SnapshotIndex, metadata: bytes, engine: Engine) -> SnapshotIndex:
    check_bases(storage, index, engine)
    refer_to(storage, index)
    sizes = Sizes(storage)
    files = {name: _digested_anew(storage, index, name, record, engine, sizes) for name, record in index.files.items()}
    bases = {}
    for base in index.bases:
        data = storage.beside(base).read(METADATA_FILE, MAX_METADATA_NBYTES)
        bases[base] = BaseRecord(record_of(data, engine, SHA256_NAME))
    signed = msgspec.structs.replace(
        index, digest=SHA256_NAME, metadata=record_of(metadata, engine, SHA256_NAME), files=files, bases=bases
    )
    signed.set_version()
    return signed


def _digested_anew(
    storage: Directory, index: SnapshotIndex, name: str, record: FileRecord, engine: Engine, sizes: Sizes
) -> FileRecord:
    """Reads the file, checks it, and digests what was checked."""
    buffer = bytearray(min(_WINDOW_NBYTES, record.nbytes))
    digests = bytearray()
    for begin in range(0, record.nbytes, _WINDOW_NBYTES):
        nbytes = min(_WINDOW_NBYTES, record.nbytes - begin)
        wanted = FileRange(name, begin, nbytes, buffer_address(buffer))
        read_ranges(storage, index.files, index.digest, [wanted], engine, sizes)
        window = memoryview(buffer)[:nbytes]
        for at in range(0, nbytes, CHUNK_NBYTES):
            digests += engine.digest(window[at : at + CHUNK_NBYTES], SHA256_NAME)
    return msgspec.structs.replace(record, digests=digests.hex())

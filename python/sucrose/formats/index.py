"""`.snapshot_index`: what every file of a snapshot must look like, byte for byte.

Two lines: a JSON object, and the XXH3-128 of that first line (without its newline) in hex, so that
the index can tell its own damage. The index names the digest of `.snapshot_metadata`; together they
bind all parts of a snapshot to each other. See docs/format.md.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from typing import Any

import msgspec
from xxhash import xxh3_128_hexdigest

from sucrose.errors import CorruptionError, FormatVersionError
from sucrose.formats.limits import MAX_LOCATION_NBYTES
from sucrose.formats.unique_keys import check_unique_keys

INDEX_FILE = ".snapshot_index"
"""Its name, or the beginning of it: see `index_names`."""
INDEX_VERSION = 2
"""The newest that this release reads."""
DIGEST_NAME = "xxh3-128"
SHA256_NAME = "sha256-128"
"""Of signed snapshots: SHA-256 cut to 16 bytes, which a forger cannot match."""
CODEC_NAME = "zstd"
MAX_FRAMES_OVERHEAD_NBYTES = 1024
"""By how much a chunk may be longer in its frames than it is by itself; ours are by 200 bytes at most."""
_GROUPS = frozenset("0248")

Digest = Callable[[bytes], bytes]


class StoredRecord(msgspec.Struct, gc=False, omit_defaults=True):
    """How a compressed file lies on the disk: its chunks, one after another, each in frames of its own.

    `sizes` are the chunks' bytes on the disk. `groups` has one digit for each chunk, the item size of its
    byte-group filter or 0; it is empty where no chunk is filtered.
    """

    codec: str
    sizes: list[int]
    groups: str = ""

    @property
    def nbytes(self) -> int:
        """Of the file on the disk."""
        return sum(self.sizes)

    def packed_sizes(self) -> array[int]:
        """The sizes as the engine takes them."""
        return array("Q", self.sizes)

    def packed_groups(self) -> bytes:
        """The item sizes as the engine takes them."""
        return bytes(map(int, self.groups))


class FileRecord(msgspec.Struct, gc=False, omit_defaults=True):
    """Size and digests of one file; `digests` are hex, 32 digits for each chunk.

    Both are of the bytes before compression; `stored` is None where they lie in the file as they are.
    """

    nbytes: int
    digests: str
    stored: StoredRecord | None = None

    def packed_digests(self) -> bytes:
        """The digests as the engine takes them."""
        return bytes.fromhex(self.digests)

    @property
    def nbytes_on_disk(self) -> int:
        """The length that the file must have."""
        return self.nbytes if self.stored is None else self.stored.nbytes


class BaseRecord(msgspec.Struct, gc=False):
    """Another snapshot, whose files this one refers to: what its `.snapshot_metadata` looked like then."""

    metadata: FileRecord


class SnapshotIndex(msgspec.Struct, gc=False, omit_defaults=True):
    """Contents of the index.

    `files` has all files but the metadata and the index itself. `state_dict_metadata` maps logical
    paths to the `_metadata` that nn.Module.state_dict() attaches: versions of the modules. `bases` are
    the snapshots that files lie in which this one refers to, by their path from this one's folder, and
    `fingerprints` those of tensors, by logical path, in hex.
    """

    format_version: int
    writer: str
    digest: str
    chunk_nbytes: int
    metadata: FileRecord
    files: dict[str, FileRecord]
    state_dict_metadata: dict[str, dict[str, dict[str, Any]]] = {}
    bases: dict[str, BaseRecord] = {}
    fingerprints: dict[str, str] = {}

    def own_files(self) -> dict[str, FileRecord]:
        """Those of the files that lie in the snapshot itself, and not in a base."""
        if not self.bases:
            return self.files
        return {name: record for name, record in self.files.items() if not name.startswith("../")}

    def identity(self) -> bytes:
        """32 bytes that two snapshots have in common only where all of their bytes are the same."""
        digest = hashlib.sha256(self.metadata.digests.encode())
        for name in sorted(self.files):
            digest.update(f"\n{name} {self.files[name].digests}".encode())
        return digest.digest()

    def set_version(self) -> None:
        """Sets the oldest format version whose readers understand what is in here."""
        self.format_version = 2 if self._is_beyond_version_1() else 1

    def _is_beyond_version_1(self) -> bool:
        return (
            self.digest != DIGEST_NAME
            or bool(self.bases)
            or any(record.stored is not None for record in self.files.values())
        )


def index_names(metadata: bytes) -> tuple[str, str]:
    """What the index of a snapshot with this commit record may be called, in the order in which to look.

    The first is its name on object stores, the second that on file systems. Several indexes may lie side by side
    while a snapshot is replaced: the one with the digest of the record is that of the record.
    """
    return f"{INDEX_FILE}.{xxh3_128_hexdigest(metadata)}", INDEX_FILE


class _Version(msgspec.Struct):
    format_version: int


_decoder = msgspec.json.Decoder(SnapshotIndex)
_version_decoder = msgspec.json.Decoder(_Version)


def encode_index(index: SnapshotIndex, digest: Digest) -> bytes:
    """The file's contents."""
    line = msgspec.json.encode(index)
    return line + b"\n" + digest(line).hex().encode("ascii") + b"\n"


def decode_index(data: bytes, digest: Digest, *, chunk_nbytes: int, path: str) -> SnapshotIndex:
    """Parses and checks the file's contents.

    Args:
        data: contents of the file.
        digest: XXH3-128, in canonical byte order.
        chunk_nbytes: the chunk size that this release reads.
        path: where the contents come from, for messages.

    Raises:
        CorruptionError: the index is damaged or malformed.
        FormatVersionError: a newer release wrote it.
    """
    line, _, trailer = data.partition(b"\n")
    found = digest(line).hex()
    if trailer != found.encode("ascii") + b"\n":
        expected = trailer[:40].decode("ascii", "replace").strip()
        raise CorruptionError(
            f"{path}: digest {found} != {expected}. The file was changed after the snapshot was "
            "committed; restore an older snapshot",
            path=path,
        )
    try:
        version = _version_decoder.decode(line).format_version
        if not 1 <= version <= INDEX_VERSION:
            raise FormatVersionError(
                f"{path}: format version {version}, this release reads 1 to {INDEX_VERSION}: "
                "restore it with a newer torch-sucrose",
                path=path,
            )
        index = _decoder.decode(line)
        check_unique_keys(line, msgspec.json.encode(index))
        if version == 1 and index._is_beyond_version_1():  # noqa: SLF001 - of this module
            raise ValueError("it says version 1 and has what came with version 2")
        for name, record in index.files.items():
            if len(name.encode()) > MAX_LOCATION_NBYTES:
                raise ValueError(f"{name[:80]!r}... is too long for the name of a file")
            chunks = -(-record.nbytes // index.chunk_nbytes)
            if record.nbytes < 0 or len(record.packed_digests()) != 16 * chunks:
                raise ValueError(f"{name!r} has digests for another size than {record.nbytes}")
            if record.stored is not None:
                _check_stored(record.stored, record.nbytes, index.chunk_nbytes, name, path)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise CorruptionError(f"{path} is not an index: {error}", path=path) from error
    if index.digest not in (DIGEST_NAME, SHA256_NAME) or index.chunk_nbytes != chunk_nbytes:
        raise FormatVersionError(
            f"{path}: {index.digest} of chunks of {index.chunk_nbytes} bytes, this release reads "
            f"{DIGEST_NAME} and {SHA256_NAME} of {chunk_nbytes}",
            path=path,
        )
    return index


def _check_stored(stored: StoredRecord, nbytes: int, chunk_nbytes: int, name: str, path: str) -> None:
    chunks = -(-nbytes // chunk_nbytes)
    if stored.codec != CODEC_NAME:
        raise FormatVersionError(
            f"{path}: {name!r} is compressed with {stored.codec!r}, this release reads {CODEC_NAME!r}: "
            "restore it with a newer torch-sucrose",
            path=path,
        )
    if len(stored.sizes) != chunks or len(stored.groups) not in (0, chunks):
        raise ValueError(f"{name!r} has {chunks} chunks, and a table for {len(stored.sizes)}")
    last_nbytes = nbytes - (chunks - 1) * chunk_nbytes
    longest = [chunk_nbytes + MAX_FRAMES_OVERHEAD_NBYTES] * (chunks - 1) + [last_nbytes + MAX_FRAMES_OVERHEAD_NBYTES]
    if not all(0 < size <= most for size, most in zip(stored.sizes, longest, strict=False)):
        raise ValueError(f"{name!r} has a chunk that takes more bytes than it could, or none")
    if not _GROUPS.issuperset(stored.groups):
        raise ValueError(f"{name!r} has a byte-group filter for items of an unknown size")

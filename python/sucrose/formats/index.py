"""`.snapshot_index`: what every file of a snapshot must look like, byte for byte.

Two lines: a JSON object, and the XXH3-128 of that first line (without its newline) in hex, so that
the index can tell its own damage. The index names the digest of `.snapshot_metadata`; together they
bind all parts of a snapshot to each other. See docs/format.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from sucrose.errors import CorruptionError, FormatVersionError

INDEX_FILE = ".snapshot_index"
INDEX_VERSION = 1
DIGEST_NAME = "xxh3-128"

Digest = Callable[[bytes], bytes]


class FileRecord(msgspec.Struct, gc=False):
    """Size and digests of one file; `digests` are hex, 32 digits for each chunk."""

    nbytes: int
    digests: str

    def packed_digests(self) -> bytes:
        """The digests as the engine takes them."""
        return bytes.fromhex(self.digests)


class SnapshotIndex(msgspec.Struct, gc=False):
    """Contents of the index.

    `files` has all files but the metadata and the index itself. `state_dict_metadata` maps logical
    paths to the `_metadata` that nn.Module.state_dict() attaches: versions of the modules.
    """

    format_version: int
    writer: str
    digest: str
    chunk_nbytes: int
    metadata: FileRecord
    files: dict[str, FileRecord]
    state_dict_metadata: dict[str, dict[str, dict[str, Any]]] = {}


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
        if version != INDEX_VERSION:
            raise FormatVersionError(
                f"{path}: format version {version}, this release reads {INDEX_VERSION}: "
                "restore it with a newer torch-sucrose",
                path=path,
            )
        index = _decoder.decode(line)
        for name, record in index.files.items():
            chunks = -(-record.nbytes // index.chunk_nbytes)
            if record.nbytes < 0 or len(record.packed_digests()) != 16 * chunks:
                raise ValueError(f"{name!r} has digests for another size than {record.nbytes}")
    except (ValueError, ZeroDivisionError, RecursionError) as error:
        raise CorruptionError(f"{path} is not an index: {error}", path=path) from error
    if index.digest != DIGEST_NAME or index.chunk_nbytes != chunk_nbytes:
        raise FormatVersionError(
            f"{path}: {index.digest} of chunks of {index.chunk_nbytes} bytes, this release reads "
            f"{DIGEST_NAME} of {chunk_nbytes}",
            path=path,
        )
    return index

"""The record of a generation: what its chunks must look like, byte for byte.

Three lines: a JSON object; its SHA-256 in hex, so that damage is told from a forgery; and its signature in
hex, or ``unsigned``. The digests in it are SHA-256 as well: whoever can write to the server could make
bytes to a given XXH3, and a signature is worth no more than the digests that it covers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from sucrose.errors import CorruptionError, FormatVersionError, UnsafeObjectError, UnsupportedError
from sucrose.formats.limits import MAX_STATE_RECORD_NBYTES as MAX_RECORD_NBYTES
from sucrose.formats.limits import MAX_STORAGES
from sucrose.formats.signing_keys import SIGNING_KEY, Signer

RECORD_VERSION = 1
DIGEST_NAME = "sha256"
DIGEST_NBYTES = 32
CHUNK_NBYTES = 4 << 20
"""Unit of transfer and of digest."""
MAX_NUMBER = 1 << 53
"""Numbers of generations stay below: they are scores of a sorted set, which are floating-point numbers."""
UNSIGNED = b"unsigned"
_TRAILER_NBYTES = 256

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class StateRecord(msgspec.Struct, gc=False):
    """One state: its pickle and then its storages make one run of bytes, which is cut into chunks."""

    pickle_nbytes: _Count
    storage_nbytes: list[_Count]
    digests: str
    """In hex, 64 digits for each chunk."""

    @property
    def nbytes(self) -> int:
        """Of all its chunks together."""
        return self.pickle_nbytes + sum(self.storage_nbytes)

    def chunk_digests(self) -> list[bytes]:
        """One for each chunk."""
        packed = bytes.fromhex(self.digests)
        return [packed[start : start + DIGEST_NBYTES] for start in range(0, len(packed), DIGEST_NBYTES)]


class GenerationRecord(msgspec.Struct):
    """One generation; `states` has them in the order in which their chunks are counted."""

    format_version: int
    writer: str
    """Name and version of the writing package."""
    job: str
    """As it stands in the keys."""
    generation: int
    written_ns: int
    digest: str
    chunk_nbytes: int
    states: dict[str, StateRecord]


class _Version(msgspec.Struct):
    format_version: int


_decoder = msgspec.json.Decoder(GenerationRecord)
_version_decoder = msgspec.json.Decoder(_Version)


def encode_record(record: GenerationRecord, signer: Signer | None) -> bytes:
    """The value that the server keeps.

    Raises:
        UnsupportedError: it would be larger than what is read.
    """
    line = msgspec.json.encode(record)
    if len(line) > MAX_RECORD_NBYTES - _TRAILER_NBYTES:
        raise UnsupportedError(
            f"{len(record.states)} states need a record of {len(line)} bytes; at most {MAX_RECORD_NBYTES} are allowed"
        )
    signature = signer.sign(line).hex().encode() if signer is not None else UNSIGNED
    return b"\n".join([line, hashlib.sha256(line).hexdigest().encode(), signature, b""])


def decode_record(value: bytes, signer: Signer | None, *, job: str, generation: int, where: str) -> GenerationRecord:
    """Parses and checks what the server has.

    Args:
        value: what the server has.
        signer: checks the signature; None: nobody can.
        job: whose record it should be, as in the keys.
        generation: which record it should be.
        where: where it comes from, for messages.

    Raises:
        CorruptionError: the record is damaged or malformed.
        UnsafeObjectError: it is not signed with the key, or for another job or generation.
        FormatVersionError: a newer release wrote it.
    """
    line, _, trailer = value.partition(b"\n")
    digest, _, signature = trailer.removesuffix(b"\n").partition(b"\n")
    found = hashlib.sha256(line).hexdigest()
    if digest != found.encode():
        expected = digest[:64].decode("ascii", "replace")
        raise CorruptionError(f"the record of {where} is damaged: digest {found} != {expected}", path=where)
    if signer is not None:
        _check_signature(signer, line, signature, where)
    try:
        version = _version_decoder.decode(line).format_version
        if version != RECORD_VERSION:
            raise FormatVersionError(
                f"{where}: format version {version}, this release reads {RECORD_VERSION}: "
                "restore it with a newer torch-sucrose",
                path=where,
            )
        record = _decoder.decode(line)
        if (record.digest, record.chunk_nbytes) != (DIGEST_NAME, CHUNK_NBYTES):
            raise FormatVersionError(
                f"{where}: {record.digest} of chunks of {record.chunk_nbytes} bytes, this release reads "
                f"{DIGEST_NAME} of {CHUNK_NBYTES}",
                path=where,
            )
        _check_counts(record.states)
    except (ValueError, RecursionError, UnsupportedError) as error:
        raise CorruptionError(f"the record of {where} is malformed: {error}", path=where) from error
    if (record.job, record.generation) != (job, generation):
        message = f"the record of {where} was written for generation {record.generation} of job {record.job!r}"
        if signer is not None:
            raise UnsafeObjectError(f"{message}: somebody put it there; look who can write to the server", path=where)
        raise CorruptionError(message, path=where)
    return record


def check_storages(counts: Iterable[int]) -> None:
    """Checks how many storages each state has.

    Raises:
        UnsupportedError: together they are more than are read.
    """
    storages = sum(counts)
    if storages > MAX_STORAGES:
        raise UnsupportedError(f"{storages} tensors with memory of their own; at most {MAX_STORAGES} are allowed")


def _check_signature(signer: Signer, line: bytes, signature: bytes, where: str) -> None:
    if signature == UNSIGNED:
        raise UnsafeObjectError(
            f"{where} is not signed, and {SIGNING_KEY} is set here: set it in all programs of the job, or restore this "
            "generation without it once",
            path=where,
        )
    if not signer.has_signed(_from_hex(signature), line):
        raise UnsafeObjectError(
            f"{where} is signed with another key than {SIGNING_KEY}, or forged: set the same key in all programs "
            "of the job",
            path=where,
        )


def _from_hex(signature: bytes) -> bytes:
    try:
        return bytes.fromhex(signature.decode("ascii"))
    except ValueError:
        return b""


def _check_counts(states: Mapping[str, StateRecord]) -> None:
    check_storages([len(state.storage_nbytes) for state in states.values()])
    for key, state in states.items():
        chunks = -(-state.nbytes // CHUNK_NBYTES)
        if len(bytes.fromhex(state.digests)) != DIGEST_NBYTES * chunks:
            raise ValueError(f"{key!r} has digests for another size than {state.nbytes} bytes")

"""`.snapshot_signature`: who has written a snapshot.

One line of text, ``sucrose-signature 1 hmac-sha256 <key id> <signature>``. The signature covers the version, the
index and the metadata with their lengths. The index has the SHA-256 of everything else, so that nothing of a
signed snapshot can be changed without the key. Where the signature is checked that comes before anything of index
and metadata is parsed. See docs/security.md.
"""

from __future__ import annotations

import re

from xxhash import xxh3_128_hexdigest

from sucrose.errors import SignatureError
from sucrose.formats.index import SHA256_NAME
from sucrose.formats.signing_keys import SIGNING_KEY, Signer, SigningKey

SIGNATURE_FILE = ".snapshot_signature"
"""Its name, or the beginning of it: see `signature_names`."""
SIGNATURE_VERSION = 1

_USE = b"sucrose snapshot v1"
_LINE = re.compile(rb"sucrose-signature 1 hmac-sha256 ([0-9a-f]{16}) ([0-9a-f]{64})\n")
_ANY_VERSION = re.compile(rb"sucrose-signature ([0-9]{1,6}) ")


def signature_names(metadata: bytes) -> tuple[str, str]:
    """What the signature may be called, in the order in which to look: as `formats.index.index_names`."""
    return f"{SIGNATURE_FILE}.{xxh3_128_hexdigest(metadata)}", SIGNATURE_FILE


def snapshot_signer(keys: SigningKey) -> Signer:
    """Signs snapshots.

    Raises:
        ConfigError: there is no key, or one is too short.
    """
    return Signer(keys, use=_USE)


def encode_signature(signer: Signer, *, index: bytes, metadata: bytes) -> bytes:
    """The file's contents, for an index and a metadata file with these."""
    signature = signer.sign(*_signed_parts(index, metadata))
    return f"sucrose-signature {SIGNATURE_VERSION} hmac-sha256 {signer.key_id} {signature.hex()}\n".encode("ascii")


def check_signature(
    data: bytes | None, signer: Signer, *, index: bytes | None, metadata: bytes, snapshot_path: str
) -> None:
    """Checks the file's contents.

    Args:
        data: contents of the file; None where there is none.
        signer: has the keys that are accepted.
        index: contents of the index, not parsed; None where there is none.
        metadata: contents of the metadata, not parsed.
        snapshot_path: for messages.

    Raises:
        SignatureError: there is no signature, or not one of these keys for these contents.
    """
    what = _why_refused(data, signer, index, metadata)
    if what is not None:
        raise SignatureError(f"the snapshot {snapshot_path!r} {what}", path=snapshot_path)


def check_signed_digest(digest: str, *, snapshot_path: str) -> None:
    """Refuses digests that a forger could match: `digest` is the index's.

    Raises:
        SignatureError: it is not SHA-256.
    """
    if digest != SHA256_NAME:
        raise SignatureError(
            f"the snapshot {snapshot_path!r} is signed, but has digests of the kind {digest!r}, which a forger could "
            f"match; {SHA256_NAME!r} was expected. Sign it anew: Snapshot.sign()",
            path=snapshot_path,
        )


def is_signed_by_known_key(data: bytes, signer: Signer) -> bool:
    """Whether the file's contents claim one of the keys, rightly or not."""
    match = _LINE.fullmatch(data)
    return match is not None and signer.knows(match[1].decode("ascii"))


def is_well_formed(data: bytes) -> bool:
    """Whether the file's contents are a whole signature, of whomever, or claim to be one of another version."""
    other = _ANY_VERSION.match(data)
    return _LINE.fullmatch(data) is not None or (other is not None and int(other[1]) != SIGNATURE_VERSION)


def _why_refused(data: bytes | None, signer: Signer, index: bytes | None, metadata: bytes) -> str | None:
    here = f"and a signing key is set here ({SIGNING_KEY} or signing_key=)"
    if index is None:
        return (
            f"has no index, {here}: nothing in it can be checked. If you trust it, restore it without the key and "
            "take it anew"
        )
    if data is None:
        return f"is not signed, {here}. If you trust it, sign it as it is: Snapshot(path).sign() or 'sucrose sign'"
    match = _LINE.fullmatch(data)
    return _why_not_readable(data) if match is None else _why_not_valid(match, signer, index, metadata)


def _why_not_readable(data: bytes) -> str:
    newer = _ANY_VERSION.match(data)
    if newer is not None and int(newer[1]) != SIGNATURE_VERSION:
        return (
            f"has a signature of version {int(newer[1])}, this release checks {SIGNATURE_VERSION}: restore it with a "
            "newer torch-sucrose"
        )
    return f"has a damaged {SIGNATURE_FILE}: it was changed or cut off after it was written"


def _why_not_valid(match: re.Match[bytes], signer: Signer, index: bytes, metadata: bytes) -> str | None:
    key_id, signature = match[1].decode("ascii"), bytes.fromhex(match[2].decode("ascii"))
    if not signer.knows(key_id):
        return (
            "is signed with another key than the one that is set here. If that is an earlier key of yours, set both: "
            f"{SIGNING_KEY}=NEW,OLD"
        )
    if not signer.has_signed(signature, *_signed_parts(index, metadata)):
        return "was changed after it was signed: its signature does not fit. Look who can write to it; restore another"
    return None


def _signed_parts(index: bytes, metadata: bytes) -> tuple[bytes, ...]:
    version = f"sucrose-signature {SIGNATURE_VERSION}\n".encode("ascii")
    return version, len(index).to_bytes(8, "little"), index, len(metadata).to_bytes(8, "little"), metadata

"""Whether a snapshot is signed with a key that is set here."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from sucrose.formats.limits import MAX_METADATA_NBYTES
from sucrose.formats.manifest import METADATA_FILE
from sucrose.formats.signature import is_signed_by_known_key, is_well_formed
from sucrose.snapshot.authenticity import read_signature

if TYPE_CHECKING:
    from sucrose.formats.signing_keys import Signer
    from sucrose.storage import Directory


class Signature(str, Enum):
    """What a snapshot has for a signature, once a key is set."""

    VALID = "valid"
    MISSING = "missing"
    OTHER_KEY = "other key"
    """Or of a version that this release does not know."""
    INVALID = "invalid"
    """It is damaged, or that of a key which is set here for other contents."""


def why_refused(storage: Directory, signer: Signer) -> Signature:
    """What it was that a `SignatureError` has come of.

    Raises:
        CorruptionError: it is longer than any signature.
        OSError: it cannot be read.
    """
    signature = read_signature(storage, storage.read(METADATA_FILE, MAX_METADATA_NBYTES))
    if signature is None:
        return Signature.MISSING
    is_invalid = is_signed_by_known_key(signature.data, signer) or not is_well_formed(signature.data)
    return Signature.INVALID if is_invalid else Signature.OTHER_KEY

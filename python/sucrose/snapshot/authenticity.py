"""Whose snapshot it is: which keys count, and the check that comes before anything of a snapshot is parsed."""

from __future__ import annotations

import os

from sucrose.errors import ConfigError
from sucrose.formats.limits import MAX_SIGNATURE_NBYTES
from sucrose.formats.signature import check_signature, signature_names, snapshot_signer
from sucrose.formats.signing_keys import Signer, SigningKey, signing_keys_of
from sucrose.snapshot.commit_record import NamedFile, read_first
from sucrose.storage import Directory


def signer_of(signing_key: SigningKey | Signer | None) -> Signer | None:
    """What signs and checks: the keys that are given, else those of the environment; None where there are none.

    Raises:
        ConfigError: a key is too short.
    """
    if isinstance(signing_key, Signer):
        return signing_key
    keys = signing_keys_of(os.environ) if signing_key is None else signing_key
    return None if keys is None else snapshot_signer(keys)


def check_signed(
    directory: Directory, signer: Signer | None, *, index: bytes | None, metadata: bytes, snapshot_path: str
) -> None:
    """Checks the signature of index and metadata, which were read and not yet looked at. Without keys there is none.

    Raises:
        SignatureError: it is missing, or not that of one of the keys.
    """
    if signer is None:
        return
    found = read_signature(directory, metadata)
    signature = None if found is None else found.data
    check_signature(signature, signer, index=index, metadata=metadata, snapshot_path=snapshot_path)


def read_signature(directory: Directory, metadata: bytes) -> NamedFile | None:
    """The signature of a snapshot with this commit record; None where there is none.

    Raises:
        CorruptionError: it is longer than any signature.
    """
    return read_first(directory, signature_names(metadata), MAX_SIGNATURE_NBYTES)


def check_verify(signer: Signer | None, *, verify: bool) -> None:
    """Refuses to read without digests where a signature is demanded: it is worth no more than they are.

    Raises:
        ConfigError: both are asked for.
    """
    if signer is not None and not verify:
        raise ConfigError(
            "verify=False cannot go with a signing key: the signature covers digests, and only they tell whether the "
            "data is what was signed. Leave one of the two out"
        )

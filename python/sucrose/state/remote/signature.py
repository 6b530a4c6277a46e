"""Signatures of records, by which a program knows its own pickles again.

A pickle runs code when it is read. From a server it is read in full only where the record that covers it
carries a signature made with a key that the server never sees.
"""

from __future__ import annotations

from sucrose.formats.signing_keys import Signer, SigningKey

_USE = b"sucrose state v1"  # a key per use: what is signed elsewhere with the same key is no record


def record_signer(keys: SigningKey) -> Signer:
    """Signs the first lines of records.

    Raises:
        ConfigError: there is no key, or one is too short to be worth anything.
    """
    return Signer(keys, use=_USE)

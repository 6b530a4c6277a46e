"""Signatures of records, by which a program knows its own pickles again.

A pickle runs code when it is read. From a server it is read in full only where the record that covers it
carries a signature made with a key that the server never sees.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping

from sucrose.errors import ConfigError

SIGNING_KEY = "SUCROSE_SIGNING_KEY"
"""Environment variable with the key."""

_MIN_KEY_NBYTES = 16
_USE = b"sucrose state v1"  # a key per use: what is signed elsewhere with the same key is no record


class Signer:
    """HMAC-SHA256 with a key derived from the given one.

    Raises:
        ConfigError: the key is too short to be worth anything.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < _MIN_KEY_NBYTES:
            raise ConfigError(
                f"the signing key has {len(key)} bytes; at least {_MIN_KEY_NBYTES} are needed: "
                f'export {SIGNING_KEY}="$(openssl rand -hex 32)", the same in all programs of the job'
            )
        self._key = hmac.digest(key, _USE, hashlib.sha256)

    def sign(self, line: bytes) -> bytes:
        """The signature of a record's first line."""
        return hmac.digest(self._key, line, hashlib.sha256)

    def has_signed(self, line: bytes, signature: bytes) -> bool:
        """Whether `signature`, in hex, is the one of `line`."""
        return hmac.compare_digest(self.sign(line).hex().encode(), signature)


def signing_key_of(environ: Mapping[str, str]) -> bytes | None:
    """The key in the environment; None where there is none."""
    text = environ.get(SIGNING_KEY)
    return None if text is None else os.fsencode(text)

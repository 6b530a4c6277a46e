"""Keys by which a program knows its own files again.

One secret serves all uses: HMAC-SHA256 makes a key of its own for each of them, so that what was signed for one
use is worth nothing for another. Neither the secret nor those keys show in a repr, an error, a log or a pickle.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from sucrose.errors import ConfigError

SIGNING_KEY = "SUCROSE_SIGNING_KEY"
"""Environment variable with the key, or several with commas between them."""

SigningKey: TypeAlias = "str | bytes | Iterable[str | bytes]"
"""A key, or several of which the first signs and all are accepted. Text is split at commas, bytes are one key."""

_MIN_KEY_NBYTES = 16
_KEY_ID_NBYTES = 8


class Signer:
    """Signs with the first of some keys and accepts all of them. Thread-safe: nothing changes.

    Copies share the keys; a pickle has none, and what is made of it refuses to be used.

    Example:
        >>> from sucrose.formats.signing_keys import Signer
        >>> old = Signer("0123456789abcdef", use=b"docs")
        >>> both = Signer("fedcba9876543210,0123456789abcdef", use=b"docs")
        >>> both.has_signed(old.sign(b"text"), b"text"), old.has_signed(both.sign(b"text"), b"text")
        (True, False)
        >>> both
        Signer(2 keys)
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: SigningKey, *, use: bytes) -> None:
        """Derives the keys of one use.

        Raises:
            ConfigError: there is no key, or one is too short to be worth anything.
        """
        self._keys = [hmac.digest(_checked(key), use, hashlib.sha256) for key in _single_keys(keys)]
        if not self._keys:
            raise ConfigError("the list of signing keys is empty; leave it out where nothing is to be signed")

    def sign(self, *parts: bytes) -> bytes:
        """HMAC-SHA256 of the parts, one after another, with the first key."""
        return _hmac(self._usable_keys()[0], parts)

    def has_signed(self, signature: bytes, *parts: bytes) -> bool:
        """Whether `signature` is that of `parts` with any of the keys; takes no hint of how near it is."""
        return any([hmac.compare_digest(_hmac(key, parts), signature) for key in self._usable_keys()])  # noqa: C419

    @property
    def key_id(self) -> str:
        """Tells keys apart and tells nothing else about them; of the first one, in hex."""
        return _key_id(self._usable_keys()[0])

    def knows(self, key_id: str) -> bool:
        """Whether any of the keys has this id."""
        return key_id in map(_key_id, self._usable_keys())

    def __repr__(self) -> str:
        return f"Signer({len(self._keys)} key{'s' if len(self._keys) != 1 else ''})"

    def __copy__(self) -> Signer:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Signer:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _signer_without_keys, ()

    def _usable_keys(self) -> list[bytes]:
        if not self._keys:
            raise ConfigError("signing keys do not go along with a pickle: give them anew, where the object is used")
        return self._keys


def signing_keys_of(environ: Mapping[str, str]) -> list[bytes] | None:
    """The keys in the environment; None where there are none."""
    text = environ.get(SIGNING_KEY)
    return None if text is None else _split(text)


def _single_keys(keys: SigningKey) -> list[bytes]:
    if isinstance(keys, str):
        return _split(keys)
    if isinstance(keys, bytes):
        return [keys]
    if not isinstance(keys, Iterable):
        raise TypeError(f"a signing key is a {type(keys).__name__}, expected text, bytes, or several of them")
    return [single for key in keys for single in _single_keys(key)]


def _split(text: str) -> list[bytes]:
    return [os.fsencode(key.strip()) for key in text.split(",")]


def _checked(key: bytes) -> bytes:
    if len(key) < _MIN_KEY_NBYTES:
        raise ConfigError(
            f"the signing key has {len(key)} bytes; at least {_MIN_KEY_NBYTES} are needed: "
            f'export {SIGNING_KEY}="$(openssl rand -hex 32)", the same in all programs of the job'
        )
    return key


def _hmac(key: bytes, parts: Iterable[bytes]) -> bytes:
    running = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        running.update(part)
    return running.digest()


def _key_id(key: bytes) -> str:
    return hmac.digest(key, b"key id", hashlib.sha256)[:_KEY_ID_NBYTES].hex()


def _signer_without_keys() -> Signer:
    signer = Signer.__new__(Signer)
    signer._keys = []  # noqa: SLF001 - of this module
    return signer

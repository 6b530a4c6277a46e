"""`.snapshot_signature`, and index and metadata beside it: bytes that nobody has parsed yet.

The first byte says what was signed and by whom; the second how the signature was changed, and the third where. The
rest is appended to it, or stands in its place.
"""

from __future__ import annotations

from contextlib import suppress

from fuzz_targets.scratch import scratch_folder
from sucrose.errors import CorruptionError, SignatureError
from sucrose.formats.limits import MAX_SIGNATURE_NBYTES
from sucrose.formats.signature import SIGNATURE_FILE, encode_signature, is_signed_by_known_key, snapshot_signer
from sucrose.snapshot.authenticity import check_signed
from sucrose.storage import LocalDirectory

_FOLDER = scratch_folder()
_KNOWN = snapshot_signer("0123456789abcdef,an earlier key of the reader")
_EARLIER = snapshot_signer("an earlier key of the reader")
_STRANGER = snapshot_signer("the key of somebody else")
_INDEX, _METADATA = b'{"format_version":2}\n' + b"0" * 32 + b"\n", b'{"version":"0.1.0","world_size":1,"manifest":{}}'


def seeds() -> dict[str, bytes]:
    """Right ones by each key, and some of each way to be wrong."""
    whole = encode_signature(_KNOWN, index=_INDEX, metadata=_METADATA)
    return {
        "known": bytes([0, 0, 0]), "earlier": bytes([1, 0, 0]), "stranger": bytes([2, 0, 0]),
        "other_index": bytes([4, 0, 0]), "moved_border": bytes([8, 0, 7]), "changed": bytes([0, 1, 60]) + b"0",
        "cut": bytes([0, 2, 50]), "longer": bytes([0, 3, 0]) + b"\n", "own": bytes([0, 4, 0]) + whole,
        "newer": bytes([0, 4, 0]) + whole.replace(b" 1 ", b" 2 "), "long": bytes([0, 5, 0]) + b"x",
    }  # fmt: skip


def check(data: bytes) -> None:
    """It is accepted just where a key of the reader's has signed these bytes, and nothing was changed since."""
    if len(data) < 3:
        return
    mode, change, at = data[:3]
    signer = (_KNOWN, _EARLIER, _STRANGER)[mode % 4 % 3]
    sound = encode_signature(signer, index=_INDEX, metadata=_METADATA)
    index, metadata = _INDEX, _METADATA
    if mode & 4:
        index = data[3:]
    if mode & 8:  # the same bytes, cut elsewhere
        both = _INDEX + _METADATA
        index, metadata = both[: at % len(both)], both[at % len(both) :]
    signature = _changed(sound, change % 6, at % len(sound), data[3:])
    (_FOLDER / SIGNATURE_FILE).write_bytes(signature)
    is_right = signature == sound and signer is not _STRANGER and (index, metadata) == (_INDEX, _METADATA)
    with suppress(SignatureError, CorruptionError):
        check_signed(LocalDirectory(str(_FOLDER)), _KNOWN, index=index, metadata=metadata, snapshot_path="snapshot")
        assert is_right or _is_new_one(signature, index, metadata)
        return
    assert not is_right
    assert not is_signed_by_known_key(signature, _KNOWN) or signature.startswith(b"sucrose-signature 1 hmac-sha256 ")


def _changed(sound: bytes, kind: int, at: int, rest: bytes) -> bytes:
    if kind == 1:
        return sound[:at] + rest + sound[at + len(rest) :]
    if kind == 2:
        return sound[:at]
    if kind == 3:
        return sound + rest
    if kind == 4:
        return rest
    if kind == 5:
        return sound + rest * (MAX_SIGNATURE_NBYTES // max(1, len(rest)) + 1)
    return sound


def _is_new_one(signature: bytes, index: bytes, metadata: bytes) -> bool:
    """Whether the bytes happen to be a right one all the same: the input was made by a key of the reader's."""
    return signature in [encode_signature(key, index=index, metadata=metadata) for key in (_KNOWN, _EARLIER)]

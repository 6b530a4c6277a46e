"""The record of a generation of states on a server, whose digest is always right.

Bytes are its first line as it is, or after a zero byte, edits of a sound one. After a one the same edits are of a
record that was signed before, by a key that the reader has.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress

from fuzz_targets.json_edits import edited
from sucrose.errors import CorruptionError, FormatVersionError, UnsafeObjectError
from sucrose.formats.signing_keys import Signer
from sucrose.state.remote.record import CHUNK_NBYTES, UNSIGNED, decode_record, encode_record

LINE = (
    b'{"format_version":1,"writer":"w","job":"job","generation":7,"written_ns":1,"digest":"sha256","chunk_nbytes":4194304,'
    b'"states":{"s":{"pickle_nbytes":5,"storage_nbytes":[3,0],"digests":"' + b"0f" * 32 + b'"}}}'
)
_SIGNER = Signer("0123456789abcdef", use=b"fuzzing")
_SIGNATURE = _SIGNER.sign(LINE)


def seeds() -> dict[str, bytes]:
    """One record, whole, and after an edit of each kind; a signed one."""
    edits = b"".join(bytes([0, where, kind, 3]) for where, kind in ((9, 0), (3, 1), (4, 2), (11, 3), (2, 4), (12, 5)))
    return {"record.json": LINE, "edits": edits, "signed": b"\x01", "signed_edited": bytes([1, 4, 4, 129])}


def check(data: bytes) -> None:
    """What is accepted has as many digests as chunks; with a key, it is what was signed."""
    is_signed = data.startswith(b"\x01")
    line = edited(LINE, data[1:]) if data[:1] in (b"\x00", b"\x01") else data
    line = line.replace(b"\n", b" ")
    signature = _SIGNATURE.hex().encode() if is_signed else UNSIGNED
    value = b"\n".join([line, hashlib.sha256(line).hexdigest().encode(), signature, b""])
    with suppress(CorruptionError, FormatVersionError):
        record = decode_record(value, None, job="job", generation=7, where="server")
        for state in record.states.values():
            assert len(state.chunk_digests()) == -(-state.nbytes // CHUNK_NBYTES)
        encode_record(record, None)
    with suppress(UnsafeObjectError):
        decode_record(value, _SIGNER, job="job", generation=7, where="server")
        assert is_signed
        assert line == LINE

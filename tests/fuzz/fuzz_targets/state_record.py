"""The record of a generation of states on a server: the first line; its digest is always right."""

from __future__ import annotations

import hashlib
from contextlib import suppress

from sucrose.errors import SucroseError
from sucrose.state.remote.record import CHUNK_NBYTES, decode_record, encode_record

LINE = (
    b'{"format_version":1,"writer":"w","job":"job","generation":7,"written_ns":1,"digest":"sha256","chunk_nbytes":4194304,'
    b'"states":{"s":{"pickle_nbytes":5,"storage_nbytes":[3,0],"digests":"' + b"0f" * 32 + b'"}}}'
)


def seeds() -> dict[str, bytes]:
    """One record."""
    return {"record.json": LINE}


def check(data: bytes) -> None:
    """What is accepted has as many digests as chunks."""
    line = data.replace(b"\n", b" ")
    value = b"\n".join([line, hashlib.sha256(line).hexdigest().encode(), b"unsigned", b""])
    with suppress(SucroseError):
        record = decode_record(value, None, job="job", generation=7, where="server")
        for state in record.states.values():
            assert len(state.chunk_digests()) == -(-state.nbytes // CHUNK_NBYTES)
        encode_record(record, None)

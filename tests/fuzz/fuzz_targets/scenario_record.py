"""The record of a scenario's checkpoint: as it is, or after a zero byte, edits of a sound one."""

from __future__ import annotations

from contextlib import suppress

from fuzz_targets.json_edits import edited
from sucrose.errors import CorruptionError, FormatVersionError
from sucrose.scenarios.record import Record, decode_record, encode_record

_SOUND = encode_record(
    Record(
        epoch=10, step=5000, is_mid_epoch=False, saved_ns=1, config={"optim.lr": 0.1, "name": "x", "n": [1, None]},
        overrides=("optim.lr=0.1",), metrics={"loss": float("nan")}, logs={"events.out": 100},
    )
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    """One record with everything in it, whole, and after an edit of each kind."""
    edits = b"".join(bytes([0, where, kind, 3]) for where, kind in ((9, 0), (3, 1), (4, 2), (11, 3), (2, 4), (12, 5)))
    return {"record.json": _SOUND, "edits": edits, "nothing_edited": b"\x00", "newer": bytes([0, 1, 4, 129])}


def check(data: bytes) -> None:
    """What is accepted can be written again, and is the same then."""
    if data.startswith(b"\x00"):
        data = edited(_SOUND, data[1:])
    with suppress(CorruptionError, FormatVersionError):
        record = decode_record(data, path="file")
        again = encode_record(record)
        assert encode_record(decode_record(again, path="file")) == again

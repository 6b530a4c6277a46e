"""The record of a scenario's checkpoint."""

from __future__ import annotations

from contextlib import suppress

from sucrose.errors import SucroseError
from sucrose.scenarios.record import Record, decode_record, encode_record


def seeds() -> dict[str, bytes]:
    """One record with everything in it."""
    record = Record(
        epoch=10, step=5000, is_mid_epoch=False, saved_ns=1, config={"optim.lr": 0.1, "name": "x", "n": [1, None]},
        overrides=("optim.lr=0.1",), metrics={"loss": float("nan")}, logs={"events.out": 100},
    )  # fmt: skip
    return {"record.json": encode_record(record)}


def check(data: bytes) -> None:
    """What is accepted can be written again."""
    with suppress(SucroseError):
        encode_record(decode_record(data, path="file"))

"""Event files of TensorBoard, as they are read when a run goes back or is drawn."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from fuzz_targets.scratch import scratch_folder
from sucrose.scenarios.tensorboard.crc32c import masked_crc32c
from sucrose.scenarios.tensorboard.event_heads import read_heads

_PATH = scratch_folder() / "events"


def seeds() -> dict[str, bytes]:
    """Payloads of events, each preceded by its length in two bytes."""
    scalar = Event(wall_time=1.0, step=300)
    scalar.summary.value.add(tag="loss", simple_value=0.5)
    hparams = Event(wall_time=1.0)
    hparams.summary.value.add(tag="_hparams_/experiment").metadata.plugin_data.plugin_name = "hparams"
    events = [
        Event(wall_time=1.0, file_version="brain.Event:2"), scalar, hparams,
        Event(step=5, session_log=SessionLog(status=SessionLog.START)), Event(step=-1),
        Event(wall_time=2.0, step=2**62),
    ]  # fmt: skip
    payloads = [event.SerializeToString() for event in events]
    return {"events": b"".join(len(payload).to_bytes(2, "little") + payload for payload in payloads)}


def check(data: bytes) -> None:
    """Framed events with right checksums, and the bytes as they are."""
    framed = b""
    at = 0
    while at + 2 <= len(data):
        nbytes = int.from_bytes(data[at : at + 2], "little")
        framed += _record(data[at + 2 : at + 2 + nbytes])
        at += 2 + nbytes
    for content in (framed, data):
        _PATH.write_bytes(content)
        with suppress(OSError):
            for heads in read_heads(str(_PATH)):
                assert len(heads.begins) == len(heads.ends) == len(heads.steps) == len(heads.have_content)
                assert (heads.begins < heads.ends).all()


def _record(payload: bytes) -> bytes:
    head = len(payload).to_bytes(8, "little")
    return head + _crc(head) + payload + _crc(payload)


def _crc(data: bytes) -> bytes:
    return int(masked_crc32c(data, np.array([0]), np.array([len(data)]))[0]).to_bytes(4, "little")

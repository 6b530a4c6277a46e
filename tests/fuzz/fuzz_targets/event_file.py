"""Event files of TensorBoard, as they are read when a run goes back and when it is drawn.

Bytes are payloads of events, each preceded by its length in two bytes. The checksums are made. A length from 0xff00
on is something else, by its lower byte: a record with a claim of eight bytes in the place of a length, a payload that
is longer than what is read at once, a wrong checksum of either kind, the first record again, many times.
"""

from __future__ import annotations

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.util.tensor_util import make_tensor_proto

from fuzz_targets.scratch import scratch_folder
from sucrose.post.event_scalars import RunScalars
from sucrose.scenarios.tensorboard.beginning import beginning_after
from sucrose.scenarios.tensorboard.event_heads import read_heads

_PATH = scratch_folder() / "events"
_SPECIAL = 0xFF00
_CLAIM, _LONG, _WRONG_HEAD, _WRONG_TAIL, _AGAIN = range(5)
_LONG_NBYTES = (4 << 20) + 5
_MAX_RECORDS = 40
_UNCHECKED_NBYTES = 4096  # checksums of longer payloads are not looked at


def seeds() -> dict[str, bytes]:
    """Events of every kind, one after another; then what is special."""
    scalar = Event(wall_time=1.0, step=300)
    scalar.summary.value.add(tag="loss", simple_value=0.5)
    hparams = Event(wall_time=1.0)
    hparams.summary.value.add(tag="_hparams_/experiment").metadata.plugin_data.plugin_name = "hparams"
    events = [
        Event(wall_time=1.0, file_version="brain.Event:2"), scalar, hparams,
        Event(step=5, session_log=SessionLog(status=SessionLog.START)), Event(step=-1),
        Event(wall_time=2.0, step=2**62),
    ]  # fmt: skip
    whole = b"".join(map(_packed, events))
    tensors = b""
    for number, value in enumerate((0.5, [1, 2], np.float16(2), np.int8(3), True, "text")):
        event = Event(wall_time=3.0, step=number)
        event.summary.value.add(tag=f"t{number}", tensor=make_tensor_proto(value))
        tensors += _packed(event)
    return {
        "events": whole, "tensors": tensors,
        "claim": whole + b"\x00\xff" + (1 << 40).to_bytes(8, "little"),
        "long": _packed(scalar) + b"\x01\xff" + whole, "wrong": b"\x02\xff" + _packed(scalar) + b"\x03\xff" + whole,
        "many": _packed(scalar) + b"\x04\xff" + whole,
    }  # fmt: skip


def check(data: bytes) -> None:
    """Heads and points are found, or left out, of framed events and of the bytes as they are."""
    for content in (_framed(data), data):
        _PATH.write_bytes(content)
        steps: list[int] = []
        for heads in read_heads(str(_PATH)):
            assert len(heads.begins) == len(heads.ends) == len(heads.steps) == len(heads.have_content)
            assert (heads.begins < heads.ends).all()
            assert heads.ends[-1] <= len(content)
            steps += heads.steps.tolist()
        told_again = beginning_after([str(_PATH)], max(steps, default=None), min(steps, default=None), 3).told_again
        assert all(0 <= extent.begin < extent.end <= len(content) for extent in told_again)
        scalars = RunScalars(lambda tag: tag != "unwanted")
        scalars.read(str(_PATH))
        assert scalars.series().keys() <= scalars.tags


def _framed(data: bytes) -> bytes:
    framed = bytearray()
    first = b""
    is_sound = [True, True]
    at = 0
    for _ in range(_MAX_RECORDS):
        if at + 2 > len(data):
            break
        nbytes = int.from_bytes(data[at : at + 2], "little")
        at += 2
        if nbytes < _SPECIAL:
            record = _record(data[at : at + nbytes], *is_sound)
            framed += record
            first = first or record
            is_sound = [True, True]
            at += nbytes
        elif nbytes - _SPECIAL == _CLAIM:
            head = data[at : at + 8].ljust(8, b"\0")
            framed += head + _crc(head)
            at += 8
        elif nbytes - _SPECIAL == _LONG:
            framed += _record(data[at : at + 64].ljust(_LONG_NBYTES, b"\0"))
            at += 64
        elif nbytes - _SPECIAL in (_WRONG_HEAD, _WRONG_TAIL):
            is_sound[nbytes - _SPECIAL - _WRONG_HEAD] = False
        elif nbytes - _SPECIAL == _AGAIN:
            framed += first * 100
    return bytes(framed)


def _packed(event: Event) -> bytes:
    payload: bytes = event.SerializeToString()
    return len(payload).to_bytes(2, "little") + payload


def _record(payload: bytes, has_sound_head: bool = True, has_sound_tail: bool = True) -> bytes:
    head = len(payload).to_bytes(8, "little")
    tail = _crc(payload) if len(payload) <= _UNCHECKED_NBYTES and has_sound_tail else b"none"
    return head + (_crc(head) if has_sound_head else b"none") + payload + tail


def _crc(data: bytes) -> bytes:
    return int(masked_crc32c(data)).to_bytes(4, "little")

"""What the events of a file are about, and their steps, which stand at their front: hardly any has to be parsed.

A protobuf message is its fields, as a rule in the order of their numbers: the time and the step, unless they are 0,
and one field that says by its number what the event is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no types
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]  # it has no types

from sucrose.scenarios.tensorboard.event_records import HEAD_NBYTES, TAIL_NBYTES, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sucrose.scenarios.tensorboard.event_records import Records

_WALL_TIME, _STEP = 0x09, 0x10  # how these fields begin
_WALL_TIME_NBYTES = 9
_SHORTEST = 24  # of a payload that is looked into without parsing: a time, a step, and what comes after
_NUMBERS = {field.name: field.number for field in Event.DESCRIPTOR.oneofs_by_name["what"].fields}
_NOTHING = 0  # no field has this number
_HPARAMS = "hparams"  # TensorBoard's plugin


@dataclass(frozen=True, slots=True)
class Heads:
    """Some events of a file, in its order; arrays of equal length.

    Attributes:
        begins: offsets of the records.
        ends: offsets of what comes after them.
        steps: of the events.
        are_points: whether they have values at a step, and do not only describe the file, the session or the graph.
        are_hparams: whether the values are hyperparameters, which belong to no step.
        are_starts: whether TensorBoard, when it reads this, forgets what it has read of this step and of later ones.
        have_content: whether a user would miss them.
    """

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    steps: NDArray[np.int64]
    are_points: NDArray[np.bool_]
    are_hparams: NDArray[np.bool_]
    are_starts: NDArray[np.bool_]
    have_content: NDArray[np.bool_]


def read_heads(path: str) -> Iterator[Heads]:
    """The heads of all whole records, up to the first with a damaged length.

    Raises:
        OSError: the file cannot be read.
    """
    for records in read_records(path):
        steps, kinds = _steps_and_kinds(records)
        are_points = kinds == _NUMBERS["summary"]
        are_sessions = kinds == _NUMBERS["session_log"]
        yield Heads(
            begins=records.at + records.begins - HEAD_NBYTES,
            ends=records.at + records.ends + TAIL_NBYTES,
            steps=steps,
            are_points=are_points,
            are_hparams=_which(records, are_points & (_HPARAMS.encode() in records.data), _is_hparams),
            are_starts=_which(records, are_sessions, _is_start),
            have_content=~np.isin(kinds, (_NOTHING, _NUMBERS["file_version"])) & ~are_sessions,
        )


def _steps_and_kinds(records: Records) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps, and the numbers of the fields that tell what events are about."""
    data = np.frombuffer(records.data, np.uint8)
    are_usual = records.ends - records.begins >= _SHORTEST
    at = np.where(are_usual, records.begins, 0)
    at += _WALL_TIME_NBYTES * (data[at] == _WALL_TIME)
    is_inside = are_usual & (data[at] == _STEP)
    at += is_inside
    steps = np.zeros(len(at), np.uint64)
    for shift in range(0, 70, 7):  # seven bits in each byte, lowest first; the eighth says that there are more
        byte = data[at].astype(np.uint64)
        steps |= np.where(is_inside, (byte & np.uint64(0x7F)) << np.uint64(shift), np.uint64(0))
        at += is_inside
        is_inside &= byte >= 0x80
    kinds = data[at].astype(np.int64) >> 3
    signed = steps.view(np.int64)
    for index in np.flatnonzero(~(are_usual & np.isin(kinds, list(_NUMBERS.values())))).tolist():
        event = _event(records, index)
        signed[index] = event.step
        kinds[index] = _NUMBERS.get(event.WhichOneof("what"), _NOTHING)
    return signed, kinds


def _which(records: Records, candidates: NDArray[np.bool_], has_property: Any) -> NDArray[np.bool_]:
    """Those of the candidates whose events have a property."""
    found = np.zeros(len(candidates), np.bool_)
    for index in np.flatnonzero(candidates).tolist():
        found[index] = has_property(records, index)
    return found


def _is_start(records: Records, index: int) -> bool:
    return bool(_event(records, index).session_log.status == SessionLog.START)


def _is_hparams(records: Records, index: int) -> bool:
    if _HPARAMS.encode() not in _payload(records, index):
        return False
    values = _event(records, index).summary.value
    return bool(values) and all(value.metadata.plugin_data.plugin_name == _HPARAMS for value in values)


def _event(records: Records, index: int) -> Any:
    """The `Event`; an empty one where there is none."""
    try:
        return Event.FromString(_payload(records, index))
    except DecodeError:
        return Event()


def _payload(records: Records, index: int) -> bytes:
    return records.data[records.begins[index] : records.ends[index]]

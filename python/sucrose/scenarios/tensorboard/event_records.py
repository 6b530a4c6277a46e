"""Records of an event file, and where they lie in it.

A record is the length of its payload (8 bytes, little endian), a checksum of that (4), the payload, and the payload's
checksum (4).
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no types
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]  # it has no types

logger = logging.getLogger(__name__)

_HEAD = struct.Struct("<QI")
_TAIL_NBYTES = 4
_HPARAMS = "hparams"


class EventRecord(NamedTuple):
    """One event.

    Attributes:
        begin: offset of the record.
        end: offset of what comes after it.
        kind: the field of the `Event` that it is about; empty where there is none.
        event: the `Event`.
    """

    begin: int
    end: int
    kind: str
    event: Any

    @property
    def is_point(self) -> bool:
        """Whether it has values at a step, and does not only describe the file, the session or the graph."""
        return self.kind == "summary"

    @property
    def is_start(self) -> bool:
        """Whether TensorBoard, when it reads this, forgets what it has read of this step and of later ones."""
        return self.kind == "session_log" and bool(self.event.session_log.status == SessionLog.START)

    @property
    def is_hparams(self) -> bool:
        """Whether its values are hyperparameters, which belong to no step."""
        return all(value.metadata.plugin_data.plugin_name == _HPARAMS for value in self.event.summary.value)

    @property
    def has_content(self) -> bool:
        """Whether a user would miss it."""
        return self.kind not in ("", "file_version", "session_log")


def read_records(path: str) -> Iterator[EventRecord]:
    """All whole records, up to the first that is damaged.

    Raises:
        OSError: the file cannot be read.
    """
    nbytes = os.stat(path).st_size
    begin = 0
    with open(path, "rb", buffering=1 << 20) as file:
        while head := file.read(_HEAD.size):
            length = _HEAD.unpack(head)[0] if len(head) == _HEAD.size else nbytes
            end = begin + _HEAD.size + length + _TAIL_NBYTES
            if end > nbytes:
                return  # its writer died in the middle of it, or is not done yet
            try:
                event = Event.FromString(file.read(length + _TAIL_NBYTES)[:-_TAIL_NBYTES])
            except DecodeError:
                logger.warning("%s is damaged in the record at offset %d: what comes after it is not read", path, begin)
                return
            yield EventRecord(begin, end, event.WhichOneof("what") or "", event)
            begin = end
